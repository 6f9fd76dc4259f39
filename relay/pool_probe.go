package relay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"
)

// How relays are measured: by the time from a hello to its challenge, which
// costs a relay 64 bytes, one hash, and no memory.
const (
	maxProbed     = 16 // relays of a list, from the first
	maxProbeAddrs = 4  // addresses of a relay
	probeSamples  = 2  // answers wanted; the shortest time counts
	probePatience = 1500 * time.Millisecond
	// tryBits of a question's nonce say which try it is.
	tryBits = 4
)

// probeRetries is when a question is asked again, after the time before.
var probeRetries = [...]time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, probePatience}

// probeAnswer is a challenge that answers a question of ours.
type probeAnswer struct {
	m    *member
	echo uint64
	from netip.AddrPort
	at   time.Time
}

// question is a hello to be sent.
type question struct {
	frame []byte
	to    netip.AddrPort
}

// probe is the measurement of one relay in a round, without I/O.
type probe struct {
	m       *member
	base    uint64 // the nonce without the try
	addrs   []netip.AddrPort
	sent    []time.Time // by try
	answers int
	from    netip.AddrPort // of the first answer
	best    time.Duration
	made    time.Time
	began   time.Time // zero: it waits for addresses
	again   time.Time
	done    bool
}

// newProbe makes a measurement that waits for addresses.
func newProbe(m *member, now time.Time) *probe {
	b := &probe{m: m, made: now}
	for b.base == 0 {
		b.base = rand.Uint64() >> tryBits << tryBits
	}
	return b
}

// start asks for the first time. Without addresses the measurement is over.
func (b *probe) start(now time.Time, addrs []netip.AddrPort) []question {
	if b.done {
		return nil
	}
	b.addrs, b.began = addrs[:min(len(addrs), maxProbeAddrs)], now
	if len(b.addrs) == 0 {
		b.done = true
		return nil
	}
	return b.ask(now)
}

// ask sends one more question: to all addresses until one has answered.
func (b *probe) ask(now time.Time) (out []question) {
	b.again = now.Add(probeRetries[min(len(b.sent), len(probeRetries)-1)])
	var n nonce
	binary.BigEndian.PutUint64(n[:], b.base|uint64(len(b.sent)))
	b.sent = append(b.sent, now)
	frame := appendHello(nil, n)
	if b.from.IsValid() {
		return []question{{frame, b.from}}
	}
	for _, a := range b.addrs {
		out = append(out, question{frame, a})
	}
	return out
}

// tick asks again or gives up, and returns when it wants to be called next.
func (b *probe) tick(now time.Time) (out []question, next time.Time) {
	end := b.made.Add(probeResolve + time.Second)
	if !b.began.IsZero() {
		end = b.began.Add(probePatience)
	}
	if b.done || !now.Before(end) {
		b.done = true
		return nil, now
	}
	if b.began.IsZero() {
		return nil, end
	}
	if !now.Before(b.again) {
		out = b.ask(now)
	}
	return out, earlier(b.again, end)
}

// answered takes an answer.
func (b *probe) answered(a probeAnswer) []question {
	try := int(a.echo & (1<<tryBits - 1))
	if b.done || a.echo>>tryBits != b.base>>tryBits || try >= len(b.sent) {
		return nil
	}
	rtt := max(a.at.Sub(b.sent[try]), 1)
	if b.answers == 0 || rtt < b.best {
		b.best = rtt
	}
	if b.answers == 0 {
		b.from = a.from
	}
	if b.answers++; b.answers >= probeSamples {
		b.done = true
		return nil
	}
	if len(b.sent) == 1<<tryBits {
		return nil
	}
	return b.ask(a.at)
}

// probeAnswered takes a challenge if it answers a question. It is on the data path.
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
