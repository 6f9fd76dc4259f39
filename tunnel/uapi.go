package tunnel

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"nexd/key"
)

// WireGuard's configuration protocol: lines of name=value, where public_key
// begins the lines of a peer.

// addText configures a member that WireGuard does not know. A peer that is
// created with an endpoint keeps it for good; a plain peer therefore gets its
// endpoint in a second step, so that it may roam.
func (m *member) addText() string {
	var b strings.Builder
	line(&b, "public_key", m.key.Hex())
	if !m.isStatic() {
		line(&b, "endpoint", "peer:"+m.key.Hex())
	}
	m.appendAddresses(&b)
	if m.isStatic() {
		line(&b, "public_key", m.key.Hex())
		line(&b, "endpoint", m.endpoint.String())
	}
	return b.String()
}

// changeText gives a configured peer its new addresses and endpoint.
func (m *member) changeText() string {
	var b strings.Builder
	line(&b, "public_key", m.key.Hex())
	line(&b, "update_only", "true")
	if m.isStatic() {
		line(&b, "endpoint", m.endpoint.String())
	}
	m.appendAddresses(&b)
	return b.String()
}

func (m *member) removeText() string {
	var b strings.Builder
	line(&b, "public_key", m.key.Hex())
	line(&b, "remove", "true")
	return b.String()
}

func (m *member) appendAddresses(b *strings.Builder) {
	line(b, "replace_allowed_ips", "true")
	for _, a := range m.addresses {
		line(b, "allowed_ip", a.String()+"/"+strconv.Itoa(a.BitLen()))
	}
}

func line(b *strings.Builder, name, value string) {
	b.WriteString(name)
	b.WriteByte('=')
	b.WriteString(value)
	b.WriteByte('\n')
}

// devicePeer is what WireGuard says of a configured peer.
type devicePeer struct {
	handshake int64 // Unix nanoseconds, 0 never
	rx, tx    uint64
}

// readPeers asks WireGuard. It returns nothing when the device has ended.
func readPeers(dev *device.Device) map[key.Public]devicePeer {
	var r peerReader
	if err := dev.IpcGetOperation(&r); err != nil {
		return nil
	}
	return r.peers
}

// peerReader takes the answer, which begins with the private key: it is read
// in place and nothing but the peers is kept.
type peerReader struct{ peers map[key.Public]devicePeer }

func (r *peerReader) Write(text []byte) (int, error) {
	r.peers = parsePeers(text)
	return len(text), nil
}

func parsePeers(text []byte) map[key.Public]devicePeer {
	peers := make(map[key.Public]devicePeer)
	var current key.Public
	var p devicePeer
	for l := range bytes.Lines(text) {
		name, value, ok := bytes.Cut(bytes.TrimSuffix(l, []byte("\n")), []byte("="))
		if !ok {
			continue
		}
		if string(name) == "public_key" {
			if !current.IsZero() {
				peers[current] = p
			}
			current, p = parseKey(value), devicePeer{}
			continue
		}
		if current.IsZero() {
			continue
		}
		switch string(name) {
		case "last_handshake_time_sec":
			p.handshake += int64(parseNumber(value)) * int64(time.Second)
		case "last_handshake_time_nsec":
			p.handshake += int64(parseNumber(value))
		case "rx_bytes":
			p.rx = parseNumber(value)
		case "tx_bytes":
			p.tx = parseNumber(value)
		}
	}
	if !current.IsZero() {
		peers[current] = p
	}
	return peers
}

func parseKey(text []byte) key.Public {
	var raw [key.Size]byte
	if hex.DecodedLen(len(text)) != key.Size {
		return key.Public{}
	}
	if _, err := hex.Decode(raw[:], text); err != nil {
		return key.Public{}
	}
	k, _ := key.PublicFromBytes(raw[:]) // the zero key where it fails
	return k
}

func parseNumber(text []byte) uint64 {
	n, _ := strconv.ParseUint(string(text), 10, 64) // 0 where it fails
	return n
}
