//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nexd/key"
	"nexd/test/need"
	"nexd/test/netns"
)

// stockPort is where the stock peer listens.
const stockPort = 51820

// stock is Debian's wireguard-go on a TUN device of a namespace, set up by wg(8):
// a peer that knows nothing of nexd.
type stock struct {
	*netns.Proc
	host *netns.Host
	dev  string
	key  key.Public

	t *testing.T
}

var stockCount atomic.Int32

// startStock starts a stock peer without peers.
func startStock(t *testing.T, host *netns.Host, private key.Private, mtu int, addresses ...netip.Addr) *stock {
	t.Helper()
	need.Programs(t, "wireguard-go", "wg")
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		need.Missing(t, err.Error())
	}
	// Its socket lies in a directory that all namespaces share, under this name.
	s := &stock{t: t, host: host, key: private.Public(), dev: fmt.Sprintf("wg%d-%d", os.Getpid(), stockCount.Add(1))}
	socket := "/var/run/wireguard/" + s.dev + ".sock"
	t.Cleanup(func() { os.Remove(socket) })
	cmd := host.Command("wireguard-go", "-f", s.dev)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=verbose")
	s.Proc = host.Start("wireguard-go", cmd)
	netns.Until(t, 20*time.Second, "wireguard-go", func() error {
		if !s.Running() {
			return errors.New("it ended")
		}
		_, err := os.Stat(socket)
		return err
	})
	cmd = host.Command("wg", "set", s.dev, "listen-port", strconv.Itoa(stockPort), "private-key", "/dev/stdin")
	cmd.Stdin = strings.NewReader(private.Reveal())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("wg set: %v\n%s", err, out)
	}
	lines := []string{fmt.Sprintf("link set %s mtu %d up", s.dev, mtu)}
	for _, a := range addresses {
		lines = append(lines, fmt.Sprintf("addr add %s dev %s", netip.PrefixFrom(a, a.BitLen()-8).String(), s.dev))
	}
	host.IP(lines...)
	return s
}

// add has the stock peer know another one; an invalid endpoint is none, and then it
// cannot begin.
func (s *stock) add(peer key.Public, endpoint netip.AddrPort, addresses ...netip.Addr) {
	s.t.Helper()
	var allowed []string
	for _, a := range addresses {
		allowed = append(allowed, netip.PrefixFrom(a, a.BitLen()).String())
	}
	args := []string{"set", s.dev, "peer", peer.String(), "allowed-ips", strings.Join(allowed, ",")}
	if endpoint.IsValid() {
		args = append(args, "endpoint", endpoint.String())
	}
	s.host.Run("wg", args...)
}

// forget has the stock peer drop another one with its session.
func (s *stock) forget(peer key.Public) {
	s.t.Helper()
	s.host.Run("wg", "set", s.dev, "peer", peer.String(), "remove")
}

// handshakes is how often each side began one that succeeded, as the stock peer saw it.
func (s *stock) handshakes() (itself, other int) {
	log := s.Log()
	return strings.Count(log, "Received handshake response"), strings.Count(log, "Received handshake initiation")
}

// began waits until the stock peer's log, which follows the packets a moment later,
// says that it began more handshakes than itself, and the other side more than other;
// -1 is any number.
func (s *stock) began(what string, itself, other int) {
	s.t.Helper()
	netns.Until(s.t, 20*time.Second, what, func() error {
		if i, o := s.handshakes(); i <= itself || o <= other {
			return fmt.Errorf("the stock peer began %d handshakes, nexd %d", i, o)
		}
		return nil
	})
}
