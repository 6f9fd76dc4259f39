package control

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// derivePublicURL guesses how devices reach a service that was not told: by
// the name in its given certificate, the address it listens on, or the name of
// this machine where that leads anywhere.
func derivePublicURL(ctx context.Context, listen string, port uint16, given *x509.Certificate) string {
	at := func(host string) string {
		return (&url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))}).String()
	}
	if given != nil {
		for _, name := range given.DNSNames {
			if !strings.HasPrefix(name, "*") {
				return at(name)
			}
		}
	}
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsUnspecified() {
			return at(host)
		}
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if addrs, err := net.DefaultResolver.LookupHost(ctx, name); err == nil && len(addrs) > 0 {
			return at(strings.ToLower(name))
		}
	}
	return at("127.0.0.1")
}

// certNames are what a self-made certificate is for, besides this machine's
// loopback: the host of the public URL, the one listened on, and the machine's name.
func certNames(public, listen string) []string {
	names := []string{public}
	if host, _, err := net.SplitHostPort(listen); err == nil {
		names = append(names, host)
	}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	return names
}

// advertisedSTUN is what members are told of the STUN server: the port alone
// where it listens on every address.
func advertisedSTUN(listen string, port uint16) []string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = ""
	}
	return []string{net.JoinHostPort(host, strconv.Itoa(int(port)))}
}

// lastOf is the last address of an IPv4 range that a device can have.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) + 1<<(32-p.Bits()) - 2
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
