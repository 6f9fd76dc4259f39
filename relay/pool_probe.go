package relay

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// probeAnswer is a challenge that answers a question of ours.
type probeAnswer struct {
	m    *member
	echo uint64
	from netip.AddrPort
	at   time.Time
}

// tryBits of a question's nonce say which try it is.
const tryBits = 4

// probeAnswered takes a challenge if it answers a question.
func (p *Pool) probeAnswered(m *member, frame []byte, from netip.AddrPort) bool {
	asked := m.nonce.Load()
	if asked == 0 || len(frame) != challengeSize || frame[1] != ProtocolVersion {
		return false
	}
	echo := binary.BigEndian.Uint64(frame[4:])
	if echo>>tryBits != asked>>tryBits {
		return false
	}
	select {
	case p.answers <- probeAnswer{m, echo, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), time.Now()}:
	default: // as if lost
	}
	return true
}
