//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/test/cluster"
)

// listenUDP answers each datagram with prefix and the same bytes; it keeps an
// empty prefix's datagrams as they are. The end of the test closes it.
func listenUDP(t *testing.T, n *cluster.Node, addr, prefix string) *net.UDPConn {
	t.Helper()
	pc, err := inside(n, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	})
	if err != nil {
		t.Fatalf("%s: %v", n.Name, err)
	}
	pc.SetReadBuffer(4 << 20)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			pc.WriteToUDPAddrPort(append([]byte(prefix), b[:n]...), from)
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	return pc
}

// exchange sends a datagram until the same one comes back, at most five times.
func exchange(c net.Conn, datagram []byte) error {
	b := make([]byte, 1<<16)
	var last error
	for range 5 {
		if _, err := c.Write(datagram); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, err := c.Read(b)
		switch {
		case err != nil:
			last = err
		case !bytes.Equal(b[:n], datagram):
			last = fmt.Errorf("%d bytes came back for %d, or others", n, len(datagram))
		default:
			return nil
		}
	}
	return last
}

// TestDatagrams: from nothing to the largest there is, many senders at once,
// and a destination that is not there.
func TestDatagrams(t *testing.T) {
	p := newPair(t,
		[]string{"--ingress", "udp:8000:127.0.0.1:9000", "--ingress", "udp:8001:[::1]:9000", "--ingress", "udp:8002:127.0.0.1:9002"}, nil)
	add(p.egress, "egress udp:7004:"+p.ingress.V4()+":8000", "egress udp:7006:["+p.ingress.V6()+"]:8001", "egress udp:7002:server:8002")
	listenUDP(t, p.server, "127.0.0.1:9000", "")
	listenUDP(t, p.server, "[::1]:9000", "")
	for _, at := range []string{"127.0.0.1:7004", "[::1]:7004", "127.0.0.1:7006", "[::1]:7006"} {
		c := dial(t, p.client, "udp", at)
		for _, size := range []int{1, 0, 1, 1200, 1252, 1253, 1472, 9000, 32768, 65507} {
			datagram := make([]byte, size)
			rand.Read(datagram)
			if err := exchange(c, datagram); err != nil {
				t.Errorf("%d bytes to %s: %v", size, at, err)
			}
		}
	}

	// 200 clients at once: each gets its own answers and no other's.
	var wg sync.WaitGroup
	for i := range 200 {
		c := dial(t, p.client, "udp", "127.0.0.1:7004")
		wg.Go(func() {
			for j := range 5 {
				if err := exchange(c, fmt.Appendf(nil, "client %d datagram %d", i, j)); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	if r, err := ruleOf(p.ingress, "udp:8000:127.0.0.1:9000"); err != nil || r.Active < 200 || r.State != "listening" {
		t.Errorf("ingress rule: %+v, %v", r, err)
	}

	// Nobody there: the rule says so, and says so no more once there is somebody.
	c := dial(t, p.client, "udp", "127.0.0.1:7002")
	cluster.Until(t, 10*time.Second, "the destination's refusal is seen", func() error {
		c.Write([]byte("anybody?"))
		r, err := ruleOf(p.ingress, "udp:8002:127.0.0.1:9002")
		if err == nil && r.State != "degraded" {
			err = fmt.Errorf("state %s", r.State)
		}
		return err
	})
	listenUDP(t, p.server, "127.0.0.1:9002", "")
	c2 := dial(t, p.client, "udp", "127.0.0.1:7002")
	cluster.Until(t, 10*time.Second, "the destination is back", func() error { return exchange(c2, []byte("now?")) })
	untilRule(t, p.ingress, "udp:8002:127.0.0.1:9002", "listening", "")
}
