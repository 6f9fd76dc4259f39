package netstack_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack/netstacktest"
)

func TestOnlyDeclaredPortsAnswer(t *testing.T) {
	s := netstacktest.Stack(t, 0, netstacktest.A4, netstacktest.A6)
	packets := reader(t, s)

	inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 6, syn(1, 80)))
	p := next(t, packets)
	if tcp := header.TCP(p[20:]); p[9] != 6 || tcp.Flags() != header.TCPFlagRst|header.TCPFlagAck {
		t.Errorf("SYN is answered by %x", p)
	}
	inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 17, datagram(1, 80)))
	p = next(t, packets)
	if icmp := header.ICMPv4(p[20:]); p[9] != 1 || icmp.Type() != header.ICMPv4DstUnreachable || icmp.Code() != header.ICMPv4PortUnreachable {
		t.Errorf("datagram is answered by %x", p)
	}
	inject(t, s, packet6(netstacktest.B6, netstacktest.A6, 17, datagram(1, 80)))
	p = next(t, packets)
	if icmp := header.ICMPv6(p[40:]); p[6] != 58 || icmp.Type() != header.ICMPv6DstUnreachable || icmp.Code() != header.ICMPv6PortUnreachable {
		t.Errorf("datagram is answered by %x", p)
	}
}

// Nothing may come out of the stack, whatever goes in.
func TestSilence(t *testing.T) {
	all4 := netip.MustParseAddr("224.0.0.1")
	all6 := netip.MustParseAddr("ff02::1")
	other := netip.MustParseAddr("100.64.0.9")
	echo4 := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}
	// A router advertisement with a prefix to make addresses of.
	router := netip.MustParseAddr("fe80::1")
	advertisement := append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0},
		append([]byte{3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8}, make([]byte, 12)...)...)

	t.Run("without addresses", func(t *testing.T) {
		s := netstacktest.Stack(t, 0)
		packets := reader(t, s)
		l, _ := listen(t, s, netip.IPv6Unspecified())
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		inject(t, s,
			packet4(netstacktest.B4, netstacktest.A4, 6, syn(1, port)),
			packet4(netstacktest.B4, netstacktest.A4, 1, echo4),
			packet4(netstacktest.B4, all4, 1, echo4),
			packet6(netstacktest.B6, all6, 58, []byte{128, 0, 0, 0, 0, 0, 0, 0}),
		)
		must(t, s.SetAddresses([]netip.Addr{netstacktest.A4}))
		inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 6, syn(2, port)))
		if p := next(t, packets); header.TCP(p[20:]).DestinationPort() != 2 {
			t.Errorf("an answer without an address: %x", p)
		}
	})
	t.Run("to others and from oneself", func(t *testing.T) {
		s := netstacktest.Stack(t, 0, netstacktest.A4, netstacktest.A6)
		packets := reader(t, s)
		l, _ := listen(t, s, netip.IPv6Unspecified())
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		inject(t, s,
			packet4(netstacktest.B4, other, 6, syn(1, port)),
			packet4(netstacktest.B4, other, 1, echo4),
			packet4(netstacktest.A4, netstacktest.A4, 6, syn(1, port)),
			packet4(all4, netstacktest.A4, 1, echo4),
			packet4(netstacktest.B4, all4, 1, echo4),
			packet6(router, all6, 58, advertisement),
			packet6(router, netstacktest.A6, 58, advertisement),
		)
		inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 6, syn(2, port)))
		if p := next(t, packets); p[9] != 6 || header.TCP(p[20:]).DestinationPort() != 2 {
			t.Errorf("an answer: %x", p)
		}
		if stats := s.Stats(); stats.RxForeign != 4 || stats.RxMalformed != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

func TestSYNFlood(t *testing.T) {
	s, b := netstacktest.Pair(t)
	l, at := listen(t, s, netstacktest.A4)
	for i := range 10_000 {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		inject(t, s, packet4(from, netstacktest.A4, 6, syn(uint16(i), at.Port())))
	}
	client, err := b.DialTCP(testContext(t), at)
	must(t, err)
	defer client.Close()
	must(t, write(client, "through"))
	server, err := l.Accept()
	must(t, err)
	defer server.Close()
	buf := make([]byte, 7)
	if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "through" {
		t.Errorf("%q, %v", buf, err)
	}
	if n := s.Endpoints(); n > 2000 {
		t.Errorf("%d endpoints", n)
	}
}

func TestLinkLocal(t *testing.T) {
	la, lb := netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b")
	a, b := netstacktest.Stack(t, 0, netstacktest.A4, la), netstacktest.Stack(t, 0, lb)
	netstacktest.Join(t, a.Device(), b.Device(), netstacktest.Options{})
	client, server := connect(t, a, b, lb)
	exchange(t, client, server, 100_000)
	pc, at := listenUDP(t, b, lb)
	must(t, write(dialUDP(t, a, at), "hello"))
	_, from, err := pc.ReadFrom(make([]byte, 10))
	must(t, err)
	if _, err := pc.WriteTo([]byte("hello"), from); err != nil {
		t.Error(err)
	}
	if _, err := a.Ping(context.Background(), lb); err != nil {
		t.Error(err)
	}
}
