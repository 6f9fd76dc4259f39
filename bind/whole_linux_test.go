package bind

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWriteWholeForReal: both families take it, and an extra socket; afterwards
// they fragment what is too long as before.
func TestWriteWholeForReal(t *testing.T) {
	s := newSockets().(*sockets)
	b := newBind(Config{}, s)
	if _, _, err := b.Open(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	remote := other.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := b.AddSocket(c, remote); err != nil {
		t.Fatal(err)
	}
	p := s.now.Load()
	for _, one := range []struct {
		on *net.UDPConn
		v6 bool
	}{{p.v4.conn, false}, {connOf(p.v6), true}, {c, false}} {
		if one.on == nil {
			continue // no IPv6 here
		}
		to := local(one.v6, b.Port()).AddrPort
		if one.on == c {
			to = remote
		}
		before := discovers(t, one.on, one.v6)
		if err := wholeOn(one.on, func() error {
			if got := discovers(t, one.on, one.v6); got != unix.IP_PMTUDISC_DO {
				t.Errorf("to %s: meanwhile the socket has mode %d", to, got)
			}
			return nil
		}); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
		if err := b.WriteWhole(stunMessage(8932), newPeer(), to); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
		if after := discovers(t, one.on, one.v6); after != before {
			t.Errorf("to %s: the socket has mode %d, before %d", to, after, before)
		}
	}
}

func connOf(s *socket) *net.UDPConn {
	if s == nil {
		return nil
	}
	return s.conn
}

// discovers is the socket's mode of path MTU discovery.
func discovers(t *testing.T, c *net.UDPConn, v6 bool) (mode int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	var e error
	if err := raw.Control(func(fd uintptr) { mode, e = unix.GetsockoptInt(int(fd), level, option) }); err != nil || e != nil {
		t.Fatal(err, e)
	}
	return mode
}
