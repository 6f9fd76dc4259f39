package discovery

import (
	"slices"
	"time"

	"nexd/internal/relaypath"
	"nexd/key"
)

// replaceRelays takes a new list of relays; peers in contact hear of it at once.
func (a *Agent) replaceRelays(now time.Time, list []Relay) {
	clear(a.relays)
	a.ownRelays = nil
	for _, r := range list {
		if r.Number == 0 {
			continue
		}
		a.relays[r.Number] = r
		if r.Own {
			a.ownRelays = append(a.ownRelays, r.Key)
		}
	}
	a.ranking++
	for p := range a.active {
		a.step(p, now, func(*machine) {})
	}
}

// rank tells p's machine which relays there are, and how likely the peer is at each.
func (a *Agent) rank(p *peer, now time.Time) {
	p.ranked = a.ranking
	list := make([]relayTarget, 0, len(a.relays))
	for n, r := range a.relays {
		t := relayTarget{number: n, rank: unranked, up: r.Up, shaky: r.Shaky, tls: r.TLS}
		if r.Own {
			t.rank = unranked / 2 // perhaps the peer has the same
		}
		for _, said := range [][]uint16{p.relays, p.offered} { // its own word, if there is one, is the newer
			if i := slices.Index(said, n); i >= 0 {
				t.rank = i
			}
		}
		list = append(list, t)
	}
	p.machine.setRelays(list)
}

// learnRelays notes where the peer's own offer says it is.
func (a *Agent) learnRelays(p *peer, keys []key.Public) {
	var numbers []uint16
	for _, k := range keys {
		for n, r := range a.relays {
			if r.Key == k {
				numbers = append(numbers, n)
			}
		}
	}
	if !slices.Equal(numbers, p.offered) {
		p.offered, p.ranked = numbers, 0
	}
}

// provedFor is how long an answer through a relay shows that offers take that way.
const provedFor = 10 * time.Second

// relayOffer sends a sealed offer through a relay, if the peer has one. proved:
// the peer answered through it lately, so no other way is needed.
func (a *Agent) relayOffer(p *peer, sealed []byte) (sent, proved bool) {
	now := time.Now()
	t := p.machine.bestRelay(now, nil)
	if t == nil {
		return false, false
	}
	if a.config.Socket.WriteRelay(t.relay.number, p.key, append([]byte{relaypath.Offer}, sealed...)) != nil {
		a.counters.failed.Add(1)
		return false, false
	}
	return true, within(t.pong, now, provedFor)
}
