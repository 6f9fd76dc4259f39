package tunnel

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"

	"nexd/internal/logkey"
	"nexd/key"
)

// table is the membership at one moment. It never changes once stored, so the
// packet path reads it without a lock.
type table struct {
	byKey  map[key.Public]*member
	byAddr map[netip.Addr]*member
	static []*member // plain WireGuard peers
}

// member is one row; a change of its addresses or endpoint makes a new one
// with the same life.
type member struct {
	key       key.Public
	addresses []netip.Addr // sorted, unmapped, nobody else's
	endpoint  netip.AddrPort
	life      *life
}

// life is what is known of a member over changes of the table. Times are
// nanoseconds after Tunnel.epoch, 0 for never.
type life struct {
	active  atomic.Bool // WireGuard has it
	began   atomic.Int64
	lastOut atomic.Int64 // data to it
	lastIn  atomic.Int64 // data from it

	// What WireGuard counted in earlier activations.
	rx, tx    atomic.Uint64
	handshake atomic.Int64 // Unix nanoseconds, 0 never
}

func (m *member) isStatic() bool { return m.endpoint.IsValid() }

// lastUse returns when data last passed, or the activation if that is later.
func (l *life) lastUse() int64 {
	return max(l.began.Load(), l.lastOut.Load(), l.lastIn.Load())
}

func newTable(size int) *table {
	return &table{
		byKey:  make(map[key.Public]*member, size),
		byAddr: make(map[netip.Addr]*member, 2*size),
	}
}

// buildTable makes the next table from foreign data: one member's mistake must
// not cost another anything, so what is wrong is left out and said.
func buildTable(peers []Peer, old *table, own key.Public, log *slog.Logger) *table {
	t := newTable(len(peers))
	for _, p := range peers {
		if p.Key.IsZero() || p.Key == own {
			continue
		}
		if t.byKey[p.Key] != nil {
			log.Warn("member listed twice, the first counts", logkey.Peer, p.Key.Short())
			continue
		}
		m := nextMember(old.byKey[p.Key], p.Key, t.free(p, log), endpointOf(p))
		t.byKey[m.key] = m
		for _, a := range m.addresses {
			t.byAddr[a] = m
		}
		if m.isStatic() {
			t.static = append(t.static, m)
		}
	}
	return t
}

// free returns the addresses of p that are fit for use and not taken yet.
func (t *table) free(p Peer, log *slog.Logger) []netip.Addr {
	addresses := make([]netip.Addr, 0, len(p.Addresses))
	for _, a := range p.Addresses {
		a = a.Unmap().WithZone("")
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			log.Warn("member with an unusable address", logkey.Peer, p.Key.Short(), logkey.Addr, a)
			continue
		}
		if other := t.byAddr[a]; other != nil {
			log.Warn("two members with one address, the first keeps it",
				logkey.Peer, p.Key.Short(), logkey.Addr, a, logkey.Device, other.key.Short())
			continue
		}
		addresses = append(addresses, a)
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}

func endpointOf(p Peer) netip.AddrPort {
	if !p.Endpoint.IsValid() || p.Endpoint.Port() == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(p.Endpoint.Addr().Unmap(), p.Endpoint.Port())
}

// nextMember returns old itself where nothing has changed.
func nextMember(old *member, k key.Public, addresses []netip.Addr, endpoint netip.AddrPort) *member {
	if old == nil {
		return &member{key: k, addresses: addresses, endpoint: endpoint, life: new(life)}
	}
	if old.endpoint == endpoint && slices.Equal(old.addresses, addresses) {
		return old
	}
	return &member{key: k, addresses: addresses, endpoint: endpoint, life: old.life}
}
