package discovery

import (
	"net/netip"
	"slices"
	"time"

	"nexd/internal/stunwire"
)

// stunClient asks STUN servers how they see us. It does no I/O: rounds are
// begun by start, tick says whom to ask, answered takes what verified as the
// answer of a server that was asked.
type stunClient struct {
	servers []netip.AddrPort // at most two of each family
	seen    map[netip.AddrPort]netip.AddrPort
	rtts    map[netip.AddrPort]time.Duration // of the servers in seen
	pending map[stunwire.TxID]stunAsk
	heard   map[netip.AddrPort]bool // answered in this round
	began   time.Time
	tries   int // of the current round
	done    bool
}

type stunAsk struct {
	server netip.AddrPort
	at     time.Time
}

const (
	serversPerFamily = 2
	stunFresh        = 20 * time.Second        // a round this young is not repeated on demand
	stunDoubt        = 2 * time.Second         // nor one this young when a path has just died
	stunHurry        = 300 * time.Millisecond  // how long a first offer waits for addresses
	stunEnd          = 1500 * time.Millisecond // after that a server that did not answer is gone
)

// stunTries are the times of the requests of a round: retries after 100, 200 and 400 ms.
var stunTries = [...]time.Duration{0, 100e6, 300e6, 700e6}

func newSTUNClient() stunClient {
	return stunClient{
		seen: make(map[netip.AddrPort]netip.AddrPort), rtts: make(map[netip.AddrPort]time.Duration), pending: make(map[stunwire.TxID]stunAsk),
		heard: make(map[netip.AddrPort]bool), done: true,
	}
}

// setServers takes the first two of each family, from different hosts if there are any.
func (c *stunClient) setServers(all []netip.AddrPort) (changed bool) {
	var chosen []netip.AddrPort
	for _, is4 := range []bool{true, false} {
		var family []netip.AddrPort
		for _, distinct := range []bool{true, false} {
			for _, a := range all {
				sameHost := func(b netip.AddrPort) bool { return b.Addr() == a.Addr() }
				if a.Addr().Is4() != is4 || len(family) == serversPerFamily || slices.Contains(family, a) ||
					distinct && slices.ContainsFunc(family, sameHost) {
					continue
				}
				family = append(family, a)
			}
		}
		chosen = append(chosen, family...)
	}
	if slices.Equal(chosen, c.servers) {
		return false
	}
	c.servers = chosen
	for s := range c.seen {
		if !slices.Contains(chosen, s) {
			delete(c.seen, s)
		}
	}
	return true
}

// start begins a round, whatever was before.
func (c *stunClient) start(now time.Time) {
	clear(c.pending)
	clear(c.heard)
	c.began, c.tries, c.done = now, 0, len(c.servers) == 0
}

// tick returns the servers to ask now and whether the round ended just now.
func (c *stunClient) tick(now time.Time) (ask []netip.AddrPort, ended bool) {
	if c.done {
		return nil, false
	}
	age := now.Sub(c.began)
	if age >= stunEnd {
		for _, s := range c.servers {
			if !c.heard[s] {
				delete(c.seen, s)
			}
		}
		clear(c.pending)
		c.done = true
		return nil, true
	}
	for c.tries < len(stunTries) && age >= stunTries[c.tries] {
		c.tries++
		ask = nil
		for _, s := range c.servers {
			if !c.heard[s] {
				ask = append(ask, s)
			}
		}
	}
	return ask, false
}

// asked notes a request that was sent.
func (c *stunClient) asked(id stunwire.TxID, server netip.AddrPort, now time.Time) {
	c.pending[id] = stunAsk{server, now}
}

// answered takes a response; false: nobody there was asked. ended: the round is over.
func (c *stunClient) answered(m *stunwire.Message, from netip.AddrPort, at time.Time) (ours, changed, ended bool) {
	p, ok := c.pending[m.ID]
	if !ok || p.server != from {
		return false, false, false
	}
	c.heard[from] = true
	for id, q := range c.pending {
		if q.server == from {
			delete(c.pending, id)
		}
	}
	if m.Class == stunwire.Success && m.Mapped.IsValid() && m.Mapped.Port() != 0 {
		mapped := unmap(m.Mapped)
		changed = c.seen[from] != mapped
		c.seen[from], c.rtts[from] = mapped, at.Sub(p.at)
	} else {
		_, changed = c.seen[from]
		delete(c.seen, from)
	}
	if len(c.pending) == 0 {
		c.done = true
	}
	return true, changed, c.done
}

// next is when tick has something to do; zero: only after start.
func (c *stunClient) next() time.Time {
	switch {
	case c.done:
		return time.Time{}
	case c.tries < len(stunTries):
		return c.began.Add(stunTries[c.tries])
	default:
		return c.began.Add(stunEnd)
	}
}

// mapped returns the addresses servers see, each once, v4 first.
func (c *stunClient) mapped() []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range c.servers {
		if a, ok := c.seen[s]; ok && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// hosts4 returns the servers of IPv4 that show whether a NAT counts: two, if
// both answered.
func (c *stunClient) hosts4() (out []netip.AddrPort) {
	for _, s := range c.servers {
		if _, ok := c.seen[s]; ok && s.Addr().Is4() {
			out = append(out, s)
		}
	}
	return out
}

// kind names the mapping behaviour as far as the servers tell it: of IPv4 when
// one answered there, else of IPv6.
func (c *stunClient) kind(own func(netip.AddrPort) bool) string {
	if len(c.servers) == 0 {
		return NATUnknown
	}
	if len(c.seen) == 0 {
		if !c.done || c.began.IsZero() {
			return NATUnknown
		}
		return NATBlocked
	}
	for _, is4 := range []bool{true, false} {
		var seen, hosts []netip.AddrPort
		for _, s := range c.servers {
			a, ok := c.seen[s]
			if !ok || s.Addr().Is4() != is4 {
				continue
			}
			if own(a) {
				return NATOpen
			}
			seen, hosts = append(seen, a), append(hosts, s)
		}
		switch {
		case len(seen) == 2 && seen[0] != seen[1]:
			return NATHard
		case len(seen) == 2 && hosts[0].Addr() != hosts[1].Addr():
			return NATEasy
		case len(seen) > 0:
			return NATUnknown
		}
	}
	return NATUnknown
}
