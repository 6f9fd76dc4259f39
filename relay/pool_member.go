package relay

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"nexd/key"
)

// member is one relay of a pool: made once, with its number, and never removed,
// for the number must stay its own.
type member struct {
	id     string
	number uint16
	info   atomic.Pointer[Info]    // as in the list; nil: not in it. Replaced, never changed.
	client atomic.Pointer[Client]  // nil: no session is wanted. Run sets it.
	used   atomic.Int64            // UnixNano: when a session was last wanted
	nonce  atomic.Uint64           // of the question under way, see probe; 0: none
	known  atomic.Pointer[measure] // nil: not measured

	probed, dialed []netip.AddrPort // Pool.mu guards: where answers to questions and to the client come from
}

// memberOf returns the member of a relay; p.mu is held.
func (p *Pool) memberOf(info Info) (*member, error) {
	if err := info.check(p.cfg.WriteUDP != nil); err != nil {
		return nil, err
	}
	if m := p.byID[info.ID]; m != nil {
		return m, nil
	}
	all := *p.byNumber.Load()
	if len(all) > maxNumber {
		return nil, errors.New("relay " + info.ID + " is one too many: 65535 have a number")
	}
	m := &member{id: info.ID, number: uint16(len(all))}
	p.byID[info.ID] = m
	next := append(all, m) // who reads all does not look behind its end
	p.byNumber.Store(&next)
	return m, nil
}

// set gives a member what the list says of it; the same again changes nothing.
func (m *member) set(info Info) {
	if before := m.info.Load(); before == nil || !before.same(info) {
		info.UDP = slices.Clone(info.UDP)
		m.info.Store(&info)
	} else if before.Name != info.Name {
		renamed := *before // the session goes on: see sameRelay
		renamed.Name = info.Name
		m.info.Store(&renamed)
	}
}

// same reports whether a session with one is a session with the other.
func (i Info) same(o Info) bool {
	return i.Key == o.Key && i.URL == o.URL && i.TLS == o.TLS && slices.Equal(i.UDP, o.UDP)
}

// member returns the relay of a number, or nil.
func (p *Pool) member(number uint16) *member {
	all := *p.byNumber.Load()
	if int(number) >= len(all) {
		return nil
	}
	return all[number]
}

// use notes that a session is wanted.
func (p *Pool) use(m *member) {
	m.used.Store(time.Now().UnixNano())
	if m.client.Load() == nil && m.info.Load() != nil {
		p.nudge()
	}
}

// indexAddrs makes the table of where relays answer from; p.mu is held. Of two
// relays that claim an address it is the first's of the list.
func (p *Pool) indexAddrs() {
	table := map[netip.AddrPort]*member{}
	for _, m := range p.list {
		for _, addrs := range [...][]netip.AddrPort{m.dialed, m.probed} {
			for _, a := range addrs {
				if table[a] == nil {
					table[a] = m
				}
			}
		}
	}
	p.byAddr.Store(&table)
}

// Send sends packets to a peer through a relay and returns how many went on
// their way, and whether by TLS. It does not block and keeps nothing. Without
// a session they are dropped and counted, and one is begun, as if by Use.
func (p *Pool) Send(relay uint16, peer key.Public, packets [][]byte) (sent int, tls bool) {
	m := p.member(relay)
	if m == nil {
		p.count.noSession.Add(uint64(len(packets)))
		return 0, false
	}
	c := m.client.Load()
	if c == nil {
		p.count.noSession.Add(uint64(len(packets)))
		p.use(m)
		return 0, false
	}
	sent, by := c.send(peer, packets)
	if by == NoTransport {
		p.use(m)
	}
	return sent, by == TLS
}

// HandleUDP takes a datagram of the node's socket whose first byte is 0xC0 or
// above. A packet of a peer is returned with the number of the relay it came
// through: it is part of pkt, and only valid as long. Everything else is done
// inside, without blocking, and ok is false; so it is when the datagram is not
// of a relay.
func (p *Pool) HandleUDP(pkt []byte, from netip.AddrPort) (relay uint16, peer key.Public, packet []byte, ok bool) {
	if len(pkt) < headerSize {
		return 0, key.Public{}, nil, false
	}
	m := (*p.byAddr.Load())[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())]
	if m == nil {
		return 0, key.Public{}, nil, false
	}
	if FrameType(pkt[0]) == FrameChallenge && p.probeAnswered(m, pkt, from) {
		return 0, key.Public{}, nil, false
	}
	c := m.client.Load()
	if c == nil {
		return 0, key.Public{}, nil, false
	}
	peer, packet, ok = c.HandleUDP(pkt, from)
	return m.number, peer, packet, ok
}
