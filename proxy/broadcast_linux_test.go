package proxy

import (
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A question to a broadcast address is answered from an address of this host.
func TestBroadcastIsAnswered(t *testing.T) {
	sock, err := newHostSide().listenPacket(netip.AddrPortFrom(unspecified4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer sock.close()
	at := addrPortOf(sock.(*hostSocket).conn.LocalAddr())
	client, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	everybody := netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), at.Port())
	if _, err := client.WriteTo([]byte("who?"), net.UDPAddrFromAddrPort(everybody)); err != nil {
		t.Fatal(err)
	}
	err = sock.receive(func(m mail) {
		if _, err := sock.write(m.data, m.from[0], m.addressee(0)); err != nil {
			t.Errorf("answer from %s: %v", m.addressee(0), err)
		}
	})
	if err != nil || t.Failed() {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, from, err := client.ReadFrom(make([]byte, 16))
	if want := netip.AddrPortFrom(loopback4, at.Port()); err != nil || addrPortOf(from) != want {
		t.Errorf("answered from %v, %v; want %s", from, err, want)
	}
}

// Nobody can answer from the address of a group, so the kernel chooses one.
func TestGroupIsNoAddressToAnswerFrom(t *testing.T) {
	for to, want := range map[string]netip.Addr{
		"ff02::1": {},
		"fd00::1": netip.MustParseAddr("fd00::1"),
	} {
		ctrl := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&ctrl[0]))
		h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		info := unix.Inet6Pktinfo{Addr: netip.MustParseAddr(to).As16()}
		*(*unix.Inet6Pktinfo)(unsafe.Pointer(&ctrl[unix.CmsgLen(0)])) = info
		if got := destination(ctrl); got != want {
			t.Errorf("sent to %s: answered from %v", to, got)
		}
	}
}
