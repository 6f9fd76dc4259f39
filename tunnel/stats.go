package tunnel

import (
	"maps"
	"time"

	"nexd/key"
)

// statsAge is how old the answer of Stats may be.
const statsAge = 10 * time.Millisecond

// PeerStats is what passed between this node and one member.
type PeerStats struct {
	// LastHandshake is when the last WireGuard handshake completed; zero for never.
	LastHandshake time.Time
	// Rx and Tx are bytes of WireGuard messages, over all activations.
	Rx, Tx uint64
	// Active reports whether WireGuard knows the member.
	Active bool
}

// Stats returns the members that are or were active. It is at most 10 ms
// old; the caller owns the map.
func (t *Tunnel) Stats() map[key.Public]PeerStats {
	dev := t.dev.Load()
	t.statsMu.Lock()
	defer t.statsMu.Unlock()
	if dev != nil && (t.stats == nil || time.Since(t.statsAt) > statsAge) {
		seen := readPeers(dev)
		next := make(map[key.Public]PeerStats, len(t.stats))
		for k, m := range t.table.Load().byKey {
			s := m.life.stats(seen[k])
			// A peer just removed is in neither count for a moment.
			before := t.stats[k]
			s.Rx, s.Tx = max(s.Rx, before.Rx), max(s.Tx, before.Tx)
			if s.LastHandshake.Before(before.LastHandshake) {
				s.LastHandshake = before.LastHandshake
			}
			if s != (PeerStats{}) {
				next[k] = s
			}
		}
		t.stats, t.statsAt = next, time.Now()
	}
	return maps.Clone(t.stats)
}

// keep adds what WireGuard counted of a member it has forgotten by now. With
// the lock, Stats sees either WireGuard's count or ours, never both.
func (t *Tunnel) keep(l *life, p devicePeer) {
	t.statsMu.Lock()
	defer t.statsMu.Unlock()
	l.rx.Add(p.rx)
	l.tx.Add(p.tx)
	if p.handshake != 0 {
		l.handshake.Store(p.handshake)
	}
}

func (l *life) stats(p devicePeer) PeerStats {
	s := PeerStats{Rx: l.rx.Load() + p.rx, Tx: l.tx.Load() + p.tx, Active: l.active.Load()}
	if at := max(p.handshake, l.handshake.Load()); at != 0 {
		s.LastHandshake = time.Unix(0, at)
	}
	return s
}
