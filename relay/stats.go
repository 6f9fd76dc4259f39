package relay

import (
	"fmt"
	"sync/atomic"
)

// Drop is why a relay did not forward or answer a frame.
type Drop uint8

// The reasons. The zero value is invalid.
const (
	DropMalformed Drop = 1 + iota // no frame, or of a wrong length
	DropStranger                  // from an address or connection without a session
	DropTag                       // with a tag that is not the session's: forged, or older than a change
	DropChannel                   // on a channel that was not agreed
	DropAbsent                    // to a peer that has no session here
	DropDeviceRate
	DropNetworkRate
	DropQueue   // the receiver's queue was full
	DropSend    // the socket refused it
	DropBudget  // an answer or admission over its budget
	DropEnded   // to a session that just ended
	DropForeign // the datagram is no frame and nobody wants others
	numDrops
)

// String returns the word used as a metric's label.
func (d Drop) String() string {
	switch d {
	case DropMalformed:
		return "malformed"
	case DropStranger:
		return "stranger"
	case DropTag:
		return "tag"
	case DropChannel:
		return "channel"
	case DropAbsent:
		return "absent"
	case DropDeviceRate:
		return "device-rate"
	case DropNetworkRate:
		return "network-rate"
	case DropQueue:
		return "queue"
	case DropSend:
		return "send"
	case DropBudget:
		return "budget"
	case DropEnded:
		return "ended"
	case DropForeign:
		return "foreign"
	}
	return fmt.Sprintf("drop(%d)", uint8(d))
}

// Stats is a snapshot of a server's counters since it was made.
type Stats struct {
	// SessionsUDP, SessionsTLS and Networks are there now.
	SessionsUDP, SessionsTLS, Networks int
	// PacketsUDP and PacketsTLS were handed to receivers by that transport.
	PacketsUDP, PacketsTLS uint64
	BytesUDP, BytesTLS     uint64 // frames, without UDP, TLS and WebSocket headers
	Challenges             uint64
	Admitted               uint64 // new sessions
	Moved                  uint64 // sessions that went on from another address, or were renewed
	Replaced               uint64 // sessions ended by a newer one of the same device
	Refused                map[Refusal]uint64
	Dropped                map[Drop]uint64
}

// counters are the server's; the data path counts in a [tally] first.
type counters struct {
	packetsUDP, packetsTLS, bytesUDP, bytesTLS atomic.Uint64
	challenges, admitted, moved, replaced      atomic.Uint64
	refused                                    [16]atomic.Uint64
	dropped                                    [numDrops]atomic.Uint64
}

func (c *counters) drop(why Drop) { c.dropped[why].Add(1) }

// tally counts for one goroutine and one batch of packets.
type tally struct {
	packetsUDP, packetsTLS, bytesUDP, bytesTLS uint64
	dropped                                    [numDrops]uint64
	any                                        bool // something was dropped
}

func (t *tally) drop(why Drop, n int) {
	t.dropped[why] += uint64(n)
	t.any = true
}

// flush adds the tally to c and clears it.
func (t *tally) flush(c *counters) {
	if t.packetsUDP > 0 {
		c.packetsUDP.Add(t.packetsUDP)
		c.bytesUDP.Add(t.bytesUDP)
	}
	if t.packetsTLS > 0 {
		c.packetsTLS.Add(t.packetsTLS)
		c.bytesTLS.Add(t.bytesTLS)
	}
	if t.any {
		for why, n := range t.dropped {
			if n > 0 {
				c.dropped[why].Add(n)
			}
		}
	}
	*t = tally{}
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	st := Stats{
		PacketsUDP: s.count.packetsUDP.Load(), PacketsTLS: s.count.packetsTLS.Load(),
		BytesUDP: s.count.bytesUDP.Load(), BytesTLS: s.count.bytesTLS.Load(),
		Challenges: s.count.challenges.Load(), Admitted: s.count.admitted.Load(),
		Moved: s.count.moved.Load(), Replaced: s.count.replaced.Load(),
		Refused: map[Refusal]uint64{}, Dropped: map[Drop]uint64{},
	}
	for i := range s.count.refused {
		if n := s.count.refused[i].Load(); n > 0 {
			st.Refused[Refusal(i)] = n
		}
	}
	for i := range s.count.dropped {
		if n := s.count.dropped[i].Load(); n > 0 {
			st.Dropped[Drop(i)] = n
		}
	}
	st.SessionsUDP, st.SessionsTLS, st.Networks = s.table.size()
	return st
}
