//go:build linux

package lab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"nexd/test/netns"
)

// pmpAsk sends a request to the node's router and returns the answer.
func pmpAsk(t *testing.T, n *Node, request []byte) []byte {
	t.Helper()
	c := listen(t, n.Host, "udp4")
	packet := make([]byte, 64)
	for range 3 {
		c.WriteToUDPAddrPort(request, netip.AddrPortFrom(hostOf(n.Site().lan, 1), pmpServerPort))
		c.SetReadDeadline(time.Now().Add(time.Second))
		if size, err := c.Read(packet); err == nil {
			return packet[:size]
		}
	}
	t.Fatalf("no answer to % x", request)
	return nil
}

// pmpMap asks for a mapping and returns the port outside and its lifetime.
func pmpMap(t *testing.T, n *Node, inside, wanted uint16, seconds uint32) (port uint16, lifetime uint32) {
	t.Helper()
	b := binary.BigEndian.AppendUint16([]byte{0, pmpMapUDP, 0, 0}, inside)
	b = binary.BigEndian.AppendUint16(b, wanted)
	a := pmpAsk(t, n, binary.BigEndian.AppendUint32(b, seconds))
	if len(a) != 16 || a[0] != 0 || a[1] != pmpReply+pmpMapUDP || binary.BigEndian.Uint16(a[2:]) != 0 || binary.BigEndian.Uint16(a[8:]) != inside {
		t.Fatalf("the answer to a mapping is % x", a)
	}
	return binary.BigEndian.Uint16(a[10:]), binary.BigEndian.Uint32(a[12:])
}

func TestPortMapping(t *testing.T) {
	t.Parallel()
	l := New(t)
	s := l.Site(Symmetric, Options{PortMapping: true, Nodes: 2})
	n := s.Node(1)
	pub, in, other := listen(t, l.Pub, "udp4"), listen(t, n.Host, "udp4"), listen(t, s.Node(2).Host, "udp4")
	inside, otherInside := at(in, n.V4).Port(), at(other, n.V4).Port()

	a := pmpAsk(t, n, []byte{0, pmpAddress})
	if len(a) != 12 || a[1] != pmpReply || netip.AddrFrom4([4]byte(a[8:12])) != s.Outside() {
		t.Errorf("the router says % x, its address is %s", a, s.Outside())
	}
	for what, request := range map[string][]byte{"version": {2, 0}, "operation": {0, 9}} {
		if a := pmpAsk(t, n, request); len(a) != 8 || a[3] == 0 {
			t.Errorf("unknown %s: % x", what, a)
		}
	}

	// A mapping is everybody's way in, and the way out for all destinations.
	port, life := pmpMap(t, n, inside, 40001, 3600)
	if port != 40001 || life != 3600 {
		t.Errorf("got port %d for %d s", port, life)
	}
	outside := netip.AddrPortFrom(s.Outside(), port)
	want(t, "to the mapped port", pub, outside, in, true)
	if m := mappedBy(t, in); m != outside {
		t.Errorf("the mapped socket is seen as %s, want %s", m, outside)
	}
	if second, _ := pmpMap(t, s.Node(2), otherInside, 40001, 3600); second == port || second == 0 {
		t.Errorf("two nodes have port %d", second)
	}
	if again, _ := pmpMap(t, n, inside, 0, 3600); again != port {
		t.Errorf("renewed as port %d", again)
	}
	s.Timeout(60 * time.Second) // loads the rules anew
	want(t, "to the mapped port after a reload", listen(t, l.Pub, "udp4"), outside, in, true)

	// It ends when told to, and by itself.
	if port, life := pmpMap(t, n, inside, 0, 0); port != 0 || life != 0 {
		t.Errorf("ended with port %d, %d s", port, life)
	}
	want(t, "to the mapping that was ended", listen(t, l.Pub, "udp4"), outside, in, false)
	pmpMap(t, n, inside, 40001, 1)
	time.Sleep(2 * time.Second)
	want(t, "to the mapping whose time is over", listen(t, l.Pub, "udp4"), outside, in, false)

	// A restart forgets; a new address is announced.
	pmpMap(t, n, inside, 40001, 3600)
	s.Rebind()
	want(t, "to a mapping the router forgot", listen(t, l.Pub, "udp4"), outside, in, false)
	if a := pmpAsk(t, n, []byte{0, pmpAddress}); binary.BigEndian.Uint32(a[4:]) > 1 {
		t.Errorf("after a restart the epoch is %d s", binary.BigEndian.Uint32(a[4:]))
	}
	hear, err := netns.Inside(n.Host, func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: pmpClientPort}) })
	if err != nil {
		t.Fatal(err)
	}
	defer hear.Close()
	s.Roam()
	hear.SetReadDeadline(time.Now().Add(5 * time.Second))
	packet := make([]byte, 64)
	size, err := hear.Read(packet)
	if err != nil || size != 12 || netip.AddrFrom4([4]byte(packet[8:12])) != s.Outside() {
		t.Errorf("the announcement is % x, %v; the address is %s", packet[:size], err, s.Outside())
	}
}

func FuzzPMP(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 1, 0, 0, 0xca, 0x6c, 0x9c, 0x41, 0, 0, 0x0e, 0x10})
	f.Add([]byte{2, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parsePMP(b)
		if !ok {
			return
		}
		if r.version != b[0] || r.op != b[1] || r.op >= pmpReply {
			t.Errorf("% x: %+v", b, r)
		}
		a := pmpAnswer{op: r.op, inside: r.inside, port: r.wanted, lifetime: r.lifetime, outside: netip.AddrFrom4([4]byte{192, 0, 2, 1})}.append(nil)
		if len(a) < 8 || len(a) > 16 || a[1] != r.op+pmpReply {
			t.Errorf("% x is answered % x", b, a)
		}
	})
}

func FuzzChangeOf(f *testing.F) {
	f.Add(appendRequest(nil, [12]byte{1}, changeAddr|changePort))
	f.Add(appendRequest(nil, [12]byte{}, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		changeOf(b) // foreign bytes, of any length
		if got := changeOf(appendRequest(nil, [12]byte{1}, 6)); got != 6 {
			t.Errorf("read %d", got)
		}
	})
}
