package tunnel_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

var (
	nobody  = netip.MustParseAddr("100.64.7.7")
	nobody6 = netip.MustParseAddr("fd00::7:7")
)

func TestNobodysAddressIsAnswered(t *testing.T) {
	a := newNode(t, 1)
	for _, c := range []struct {
		from, to netip.Addr
		proto    byte
		kind     []byte // type and code of the answer
	}{
		{a.addr, nobody, 17, []byte{3, 1}},
		{a.addr, nobody, 6, []byte{3, 1}},
		{a.addr6, nobody6, 17, []byte{1, 0}},
		{a.addr6, nobody6, 6, []byte{1, 0}},
	} {
		pkt := ipPacket(c.from, c.to, c.proto, make([]byte, 33))
		a.dev.out <- pkt
		var got []byte
		select {
		case got = <-a.dev.in:
		case <-time.After(eventually):
			t.Fatalf("no answer to protocol %d for %s", c.proto, c.to)
		}
		header := 20
		pseudo := []byte(nil)
		if c.to.Is6() {
			header = 40
			pseudo = append(pseudo, got[8:40]...)
			pseudo = append(pseudo, 0, 0, 0, byte(len(got)-header), 0, 0, 0, 58)
		} else if !sumsUp(got[:20]) {
			t.Error("wrong IPv4 header checksum")
		}
		if !sumsUp(append(pseudo, got[header:]...)) {
			t.Errorf("wrong ICMP checksum in the answer for %s", c.to)
		}
		if !bytes.Equal(got[header:header+2], c.kind) {
			t.Errorf("type and code %v, want %v", got[header:header+2], c.kind)
		}
		if !bytes.Equal(got[header+8:], pkt) {
			t.Errorf("the answer does not quote the packet")
		}
		from, to := got[12:16], got[16:20]
		if c.to.Is6() {
			from, to = got[8:24], got[24:40]
		}
		if !bytes.Equal(from, c.to.AsSlice()) || !bytes.Equal(to, c.from.AsSlice()) {
			t.Errorf("the answer goes from %v to %v", from, to)
		}
	}
	poll(t, "answers are not counted", func() bool {
		s := a.Counters()
		return s.DroppedUnknown == 4 && s.Unreachables == 4
	})
}

func TestAnswersAreBounded(t *testing.T) {
	a := newNode(t, 1)
	const packets = 5000
	for range packets {
		a.dev.out <- udpPacket(a.addr, nobody, 1)
	}
	poll(t, "the packets were not read", func() bool { return a.Counters().DroppedUnknown == packets })
	if got := a.Counters().Unreachables; got > packets/5 {
		t.Errorf("%d answers", got)
	}
}

func sumsUp(b []byte) bool {
	var s uint32
	for i, c := range b {
		if i%2 == 0 {
			s += uint32(c) << 8
		} else {
			s += uint32(c)
		}
	}
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return s == 0xFFFF
}
