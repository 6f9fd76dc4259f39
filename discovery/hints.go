package discovery

import (
	"net/netip"
	"slices"
	"time"

	"nexd/key"
)

const (
	maxHints     = 256 // peers
	addrsPerHint = 8
)

// hintBook holds where peers were reached, over restarts.
type hintBook struct {
	byPeer map[key.Public]Hint
	dirty  bool
}

func newHintBook(hints []Hint) hintBook {
	b := hintBook{byPeer: make(map[key.Public]Hint)}
	now := time.Now()
	for _, h := range hints {
		if h.Seen.After(now) {
			h.Seen = now // the clock was ahead then: it is old like the others
		}
		b.put(h)
	}
	b.dirty = false
	return b
}

// put keeps h; the peer seen longest ago gives way.
func (b *hintBook) put(h Hint) {
	h.Addrs = slices.Clone(h.Addrs[:min(len(h.Addrs), addrsPerHint)])
	if _, known := b.byPeer[h.Peer]; !known && len(b.byPeer) >= maxHints {
		var oldest Hint
		for _, x := range b.byPeer {
			if oldest.Peer.IsZero() || x.Seen.Before(oldest.Seen) {
				oldest = x
			}
		}
		if h.Seen.Before(oldest.Seen) {
			return
		}
		delete(b.byPeer, oldest.Peer)
	}
	b.byPeer[h.Peer] = h
	b.dirty = true
}

func (b *hintBook) addrs(peer key.Public) []netip.AddrPort {
	return slices.Clone(b.byPeer[peer].Addrs)
}

func (b *hintBook) remove(peer key.Public) {
	if _, ok := b.byPeer[peer]; ok {
		delete(b.byPeer, peer)
		b.dirty = true
	}
}

// take returns all hints, newest first.
func (b *hintBook) take() []Hint {
	b.dirty = false
	out := make([]Hint, 0, len(b.byPeer))
	for _, h := range b.byPeer {
		h.Addrs = slices.Clone(h.Addrs)
		out = append(out, h)
	}
	slices.SortFunc(out, func(x, y Hint) int {
		if c := y.Seen.Compare(x.Seen); c != 0 {
			return c
		}
		return x.Peer.Compare(y.Peer)
	})
	return out
}

// first moves the peers with hints to the front: they are likely to call.
func (b *hintBook) first(peers []key.Public) {
	slices.SortStableFunc(peers, func(x, y key.Public) int {
		_, hx := b.byPeer[x]
		_, hy := b.byPeer[y]
		switch {
		case hx == hy:
			return 0
		case hx:
			return -1
		}
		return 1
	})
}

// hintAgain is how much older a hint may become before it is written anew with
// the same addresses.
const hintAgain = time.Hour

// noteHints remembers how p is reached, if it is.
func (a *Agent) noteHints(p *peer, now time.Time) {
	m := p.machine
	if !m.direct() {
		return
	}
	order := slices.DeleteFunc(slices.Clone(m.targets), func(t *target) bool { return t.relay != nil || t.Kind == predicted && t.pong.IsZero() })
	slices.SortStableFunc(order, func(x, y *target) int {
		switch {
		case x == m.best, y != m.best && m.lessUseful(y, x):
			return -1
		}
		return 1
	})
	var addrs []netip.AddrPort
	for _, t := range order[:min(len(order), addrsPerHint)] {
		addrs = append(addrs, t.Addr)
	}
	before := a.hints.byPeer[p.key]
	if sameAddrs(before.Addrs, addrs) && within(before.Seen, now, hintAgain) {
		return
	}
	a.hints.put(Hint{Peer: p.key, Addrs: addrs, Seen: now})
}

// sameAddrs: the best is the same, and so are the others in any order.
func sameAddrs(x, y []netip.AddrPort) bool {
	if len(x) != len(y) || len(x) == 0 || x[0] != y[0] {
		return false
	}
	for _, a := range x {
		if !slices.Contains(y, a) {
			return false
		}
	}
	return true
}

// giveHints hands the hints out a last time.
func (a *Agent) giveHints() {
	if a.config.OnHints != nil && a.hints.dirty {
		a.config.OnHints(a.hints.take())
	}
}
