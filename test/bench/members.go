package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// members joins n devices to a service and prints their IPv4 addresses in the
// mesh, one a line. Nothing runs for them: they are never there.
func members(regKey string, n int) error {
	url, rest, ok := strings.Cut(regKey, "#")
	secret, _, _ := strings.Cut(rest, ".")
	if !ok {
		return fmt.Errorf("a registration key without a URL")
	}
	for i := range n {
		addr, err := join1(url, secret, fmt.Sprintf("absent%d", i), i)
		if err != nil {
			return fmt.Errorf("join member %d: %w", i, err)
		}
		fmt.Println(addr)
	}
	return nil
}

// join1 is what docs/protocol.md says of a join. The service is one that we
// started, so its certificate is not looked at; sources change so that its
// limit for each of them is not met.
func join1(url, secret, name string, i int) (netip.Addr, error) {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/100))}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, addr)
		},
	}}
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return netip.Addr{}, err
	}
	public := private.PublicKey().Bytes()
	var challenge struct {
		ServerKey []byte `json:"server_key"`
		Token     string `json:"token"`
	}
	if err := post(client, url+"/v1/challenge", nil, &challenge); err != nil {
		return netip.Addr{}, err
	}
	var transcript []byte
	for _, field := range [][]byte{[]byte(challenge.Token), public, []byte(secret), []byte(name), nil, nil, nil} {
		transcript = binary.BigEndian.AppendUint32(transcript, uint32(len(field)))
		transcript = append(transcript, field...)
	}
	mac, err := proof(private, challenge.ServerKey, "nexd join proof v1", transcript)
	if err != nil {
		return netip.Addr{}, err
	}
	var joined struct {
		Device struct{ Addresses []netip.Addr } `json:"device"`
	}
	err = post(client, url+"/v1/join", map[string]any{
		"reg_key": secret, "public_key": base64.StdEncoding.EncodeToString(public), "token": challenge.Token, "proof": mac, "name": name,
	}, &joined)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range joined.Device.Addresses {
		if a.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no IPv4 address for it")
}

// proof shows that the private key is ours.
func proof(private *ecdh.PrivateKey, server []byte, label string, transcript []byte) ([]byte, error) {
	peer, err := ecdh.X25519().NewPublicKey(server)
	if err != nil {
		return nil, err
	}
	shared, err := private.ECDH(peer)
	if err != nil {
		return nil, err
	}
	a, b := private.PublicKey().Bytes(), server
	if bytes.Compare(b, a) < 0 {
		a, b = b, a
	}
	key, err := hkdf.Key(sha256.New, shared, append(a[:32:32], b...), label, 32)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(transcript)
	return mac.Sum(nil), nil
}

// post sends JSON and reads the answer, again while the service is busy.
func post(client *http.Client, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if in == nil {
		body = nil
	}
	for attempt := 0; ; attempt++ {
		resp, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusTooManyRequests && attempt < 20 {
			resp.Body.Close()
			time.Sleep(time.Second)
			continue
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return json.NewDecoder(resp.Body).Decode(out)
	}
}
