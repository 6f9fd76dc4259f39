package netstack

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"pgregory.net/rapid"
)

// What is advertised is never more than gVisor's window, never less than the
// smaller of that and besideWindow, and a promise is never taken back.
func TestBesideKeepsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := besideSlot{scale: uint8(rapid.IntRange(0, 14).Draw(t, "scale")), stage: near}
		unit := uint32(1) << s.scale
		ack := rapid.Uint32().Draw(t, "first") // it wraps
		edge := ack + uint32(rapid.Uint16().Draw(t, "window"))<<s.scale
		promised, any := uint32(0), false
		for range rapid.IntRange(1, 50).Draw(t, "segments") {
			// gVisor keeps its own promises, but for what rounding to the scale takes.
			ack += uint32(rapid.IntRange(0, int(edge-ack)).Draw(t, "acknowledged"))
			edge += uint32(rapid.IntRange(0, min(1<<20, 0xffff<<s.scale-int(edge-ack))).Draw(t, "opened"))
			own := min((edge-ack)>>s.scale, 0xffff)
			tcp := header.TCP(make([]byte, header.TCPMinimumSize))
			tcp.SetAckNumber(ack)
			tcp.SetWindowSize(uint16(own))
			others := rapid.Bool().Draw(t, "others")
			s.advertise(tcp, others)
			got := uint32(tcp.WindowSize())
			switch {
			case got > own:
				t.Fatalf("%d units of %d", got, own)
			case !others && got != own:
				t.Fatalf("%d units of %d though alone", got, own)
			case got<<s.scale < min(own<<s.scale, besideWindow):
				t.Fatalf("a window of %d bytes, of %d", got<<s.scale, own<<s.scale)
			}
			if now := ack + got<<s.scale; any && int32(promised-now) >= int32(unit) {
				t.Fatalf("%d bytes were taken back", promised-now)
			} else if !any || int32(now-promised) > 0 {
				promised, any = now, true
			}
		}
	})
}

// syn is the TCP header of a SYN with a window scale, unless that is negative.
func syn(flags header.TCPFlags, scale int) header.TCP {
	tcp := header.TCP(make([]byte, header.TCPMinimumSize+4))
	tcp.Encode(&header.TCPFields{DataOffset: header.TCPMinimumSize + 4, Flags: header.TCPFlagSyn | flags})
	if scale >= 0 {
		header.EncodeWSOption(scale, tcp[header.TCPMinimumSize:])
	} else {
		header.EncodeNOP(tcp[header.TCPMinimumSize:])
	}
	return tcp
}

// segmentWith has a window of that many units, at no scale known here.
func segmentWith(ack uint32, window uint16) header.TCP {
	tcp := header.TCP(make([]byte, header.TCPMinimumSize))
	tcp.Encode(&header.TCPFields{DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck, AckNum: ack, WindowSize: window})
	return tcp
}

// Windows are touched only where both sides said their scale, the peer is near,
// and another connection is in use.
func TestBesideWhom(t *testing.T) {
	const full = 4096 // units of 128 bytes
	for _, tt := range []struct {
		name           string
		ours, theirs   int // window scales; negative: none
		answer, far    bool
		alone, lowered bool
	}{
		{name: "dialled", ours: 7, theirs: 7, lowered: true},
		{name: "accepted", ours: 7, answer: true, lowered: true},
		{name: "far", ours: 7, theirs: 7, far: true},
		{name: "alone", ours: 7, theirs: 7, alone: true},
		{name: "the peer has no scale", ours: 7, theirs: -1},
		{name: "accepted from a peer without a scale", ours: -1, answer: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, now := newBeside(), time.Second
			var peer nearness
			if tt.answer {
				b.leaveAt(now, 5, syn(header.TCPFlagAck, tt.ours))
			} else {
				b.leaveAt(now, 5, syn(0, tt.ours))
				b.answered(5, syn(header.TCPFlagAck, tt.theirs))
			}
			if !tt.far {
				b.isNear(5, &peer)
			}
			now += time.Second
			if !tt.alone {
				b.leaveAt(now, 6, segmentWith(1, 100))
			}
			tcp := segmentWith(1000, full)
			b.leaveAt(now, 5, tcp)
			if lowered := tcp.WindowSize() < full; lowered != tt.lowered {
				t.Fatalf("%d units", tcp.WindowSize())
			}
			if tt.lowered && int(tcp.WindowSize())<<7 != besideWindow {
				t.Errorf("%d units", tcp.WindowSize())
			}
			tcp = segmentWith(1000+besideWindow, full)
			peer.over.Store(true)
			if b.leaveAt(now, 5, tcp); tcp.WindowSize() != full {
				t.Errorf("%d units once the peer is elsewhere", tcp.WindowSize())
			}
			tcp = segmentWith(2000+besideWindow, full)
			peer.over.Store(false)
			if b.leaveAt(now+besideFor+1, 5, tcp); tcp.WindowSize() != full {
				t.Errorf("%d units when it is alone again", tcp.WindowSize())
			}
		})
	}
}

// A connection in use keeps its slot, an idle one gives it up.
func TestBesideSlots(t *testing.T) {
	b := newBeside()
	b.leaveAt(0, 5, syn(header.TCPFlagAck, 7))
	b.isNear(5, &nearness{})
	b.leaveAt(besideIdle/2, 5+besideSlots, syn(header.TCPFlagAck, 7))
	if s := b.slots[5]; s.flow != 5 || s.stage != near {
		t.Errorf("%+v took the place of one in use", s)
	}
	b.leaveAt(besideIdle, 5+besideSlots, syn(header.TCPFlagAck, 7))
	if s := b.slots[5]; s.flow != 5+besideSlots || s.stage != agreed {
		t.Errorf("%+v kept the place it did not use", s)
	}
}
