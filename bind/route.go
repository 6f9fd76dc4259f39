package bind

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
	"nexd/internal/relaypath"
	"nexd/key"
)

// bothBytes is what may be sent to one peer over two ways at once, in bytes,
// since [Route.Both] was set: doubt shall not double a download.
const bothBytes = 2 << 20

// Route says where packets to a peer go. An address is an ordinary one or that
// of a relay (relaypath.Addr).
type Route struct {
	// Path takes all packets. Without one (the zero value) there is no route,
	// whatever the rest says: handshake messages wait, others are dropped.
	Path netip.AddrPort
	// Spare takes handshake messages, too: they are worth more than they weigh.
	Spare netip.AddrPort
	// Both sends all packets over Path and Spare, 2 MB in all until Both is
	// set anew or one of the addresses changes.
	Both bool
}

// route is a Route in use. It never changes: a new one takes its place.
type route struct {
	path, spare *way // spare may be nil
	both        bool
	left        atomic.Int64 // bytes that may still go over both
}

// way is one of a route's addresses.
type way struct {
	addr  netip.AddrPort
	relay uint16               // 0: none, then to is set
	to    *conn.StdNetEndpoint // without a source: the routing table chooses it
	class class                // of a direct one
	// refused is the size of the segments of a batch that the system took only one
	// by one, at refusedAt: they are larger than the path's MTU. 0: none was.
	refused, refusedAt atomic.Int64
}

// refusedFor is how long a size of segments is not tried as a batch again.
const refusedFor = time.Minute

// refuses reports whether the system would refuse packets as one batch.
func (w *way) refuses(bufs [][]byte, now int64) bool {
	size := w.refused.Load()
	return size != 0 && now-w.refusedAt.Load() < int64(refusedFor) && int64(largest(bufs)) >= size
}

func newWay(addr netip.AddrPort) *way {
	if n := relaypath.Number(addr); n != 0 {
		return &way{addr: addr, relay: n}
	}
	return &way{addr: addr, to: &conn.StdNetEndpoint{AddrPort: addr}, class: directClass(addr)}
}

// The methods of a nil route are those of none.

func (r *route) pathAddr() netip.AddrPort {
	if r == nil {
		return netip.AddrPort{}
	}
	return r.path.addr
}

func (r *route) spareAddr() netip.AddrPort {
	if r == nil || r.spare == nil {
		return netip.AddrPort{}
	}
	return r.spare.addr
}

// way returns the route's way to an address, or nil.
func (r *route) way(addr netip.AddrPort) *way {
	switch {
	case r == nil:
		return nil
	case r.path.addr == addr:
		return r.path
	case r.spareAddr() == addr:
		return r.spare
	}
	return nil
}

// is reports whether r is the route rt asks for.
func (r *route) is(rt Route) bool {
	return r.pathAddr() == rt.Path && r.spareAddr() == rt.Spare && (r != nil && r.both) == rt.Both
}

// take reports whether size more bytes may go over both ways.
func (r *route) take(size int) bool {
	return r.left.Load() > 0 && r.left.Add(-int64(size)) >= 0
}

// buildRoute makes a route of rt; what the peer's present route knows of its
// addresses is kept.
func buildRoute(rt Route, old *route) *route {
	if !rt.Path.IsValid() {
		return nil
	}
	r := &route{both: rt.Both}
	r.left.Store(bothBytes)
	if r.path = old.way(rt.Path); r.path == nil {
		r.path = newWay(rt.Path)
	}
	if rt.Spare.IsValid() {
		if r.spare = old.way(rt.Spare); r.spare == nil {
			r.spare = newWay(rt.Spare)
		}
	}
	return r
}

// SetRoute sends a peer's packets to other addresses from now on. The newest
// handshake message that waits for a path, or was not answered yet, is sent at
// once to each address the route did not have before, while it is at most 4 s
// old: the others may be dead, and WireGuard drops the second copy of a message.
//
// An address nothing can be sent to (unspecified, multicast, port 0, a relay
// where there are none) counts as none. IPv6 link-local addresses cannot be
// reached: the inner socket drops their zone.
func (b *Bind) SetRoute(peer key.Public, r Route) {
	r = b.tidy(peer, r)
	msg, ways := b.setRoute(peer, r)
	defer b.sendRecalled(peer)
	for _, w := range ways {
		// An error is counted; the message is repeated, and WireGuard makes another.
		_, _ = b.sendVia(w, msg.peer.key, [][]byte{msg.message}, len(msg.message))
	}
	if len(ways) > 0 {
		msg.peer.noteSent(b.since(), len(msg.message))
	}
}

// sendRecalled sends what the route before may have swallowed over a new path,
// or over the spare that now takes all packets.
func (b *Bind) sendRecalled(peer key.Public) {
	if e := b.lookup(peer); e != nil {
		b.recallOver(e, e.fresh.Swap(nil))
	}
}

// Recall sends what silent peers may not have got once more through a relay,
// to those whose packets go that way: the relay was out of reach, and is back.
func (b *Bind) Recall(relay uint16) {
	b.mu.RLock()
	peers := slices.Collect(maps.Values(b.peers))
	b.mu.RUnlock()
	for _, e := range peers {
		r := e.route.Load()
		switch {
		case r == nil:
		case r.path.relay == relay:
			b.recallOver(e, r.path)
		case r.both && r.spare.relay == relay:
			b.recallOver(e, r.spare)
		}
	}
}

// recallBack sends what is kept over the route of now: the peer, long silent,
// is heard again.
func (b *Bind) recallBack(e *Endpoint) {
	r := e.route.Load()
	if r == nil {
		return
	}
	b.recallOver(e, r.path)
	if r.both {
		b.recallOver(e, r.spare)
	}
}

// recallOver sends what is kept by one way; nil is none.
func (b *Bind) recallOver(e *Endpoint, w *way) {
	if w == nil {
		return
	}
	if packets := e.recall.since(b.since(), e.lastReceived.Load()); len(packets) > 0 {
		b.count.recalled.Add(uint64(len(packets)))
		if sent, _ := b.sendVia(w, e.key, packets, total(packets)); sent {
			e.noteSent(b.since(), total(packets))
		}
	}
}

// tidy takes what cannot be used out of a route.
func (b *Bind) tidy(peer key.Public, r Route) Route {
	for _, a := range []*netip.AddrPort{&r.Path, &r.Spare} {
		*a = unmap(*a)
		if b.usable(*a) {
			continue
		}
		if a.IsValid() {
			b.log.Debug("unusable path", logkey.Peer, peer.Short(), logkey.Addr, *a)
		}
		*a = netip.AddrPort{}
	}
	if r.Spare == r.Path || !r.Path.IsValid() {
		r.Spare = netip.AddrPort{}
	}
	r.Both = r.Both && r.Spare.IsValid()
	return r
}

// setRoute returns the message to send over the new route, and by which ways.
func (b *Bind) setRoute(peer key.Public, rt Route) (msg *handshake, ways []*way) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.peers[peer]
	if e == nil {
		if !rt.Path.IsValid() {
			return nil, nil
		}
		e = b.addLocked(peer)
	}
	old := e.route.Load()
	if old.is(rt) {
		return nil, nil
	}
	r := buildRoute(rt, old)
	msg, ways = b.moveLocked(e, r)
	b.indexLocked(e, old, r)
	return msg, ways
}

// moveLocked puts a route in place and finds what is to be sent over it.
func (b *Bind) moveLocked(e *Endpoint, r *route) (msg *handshake, ways []*way) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.route.Swap(r)
	if old != nil && (r == nil || old.path.addr != r.path.addr || r.both) {
		e.unsure.Store(b.since() + int64(unsureFor))
	}
	switch {
	case r == nil:
		e.fresh.Store(nil)
	case old.pathAddr() != r.path.addr:
		e.fresh.Store(r.path)
	case r.both && !old.both:
		e.fresh.Store(r.spare)
	}
	h := e.newest
	if r == nil || h == nil || b.repeats.answered(h) {
		return nil, nil
	}
	now := b.since()
	waited := h.waits
	h.waits = false
	if now-h.made > int64(holdFor) {
		e.newest = nil
		if waited {
			b.count.expired.Add(1)
		}
		return nil, nil
	}
	for _, w := range []*way{r.path, r.spare} {
		if w != nil && (waited || old.way(w.addr) == nil) {
			ways = append(ways, w)
		}
	}
	switch {
	case waited:
		b.count.flushed.Add(1)
		b.repeats.start(h)
	case len(ways) > 0:
		b.count.moved.Add(1)
	}
	return h, ways
}

// table finds the peer of a route's address.
type table map[netip.AddrPort]*Endpoint

// indexLocked replaces the address table. When two peers claim one address the
// newer claim has it; the older gets it back when the newer one goes. Relays
// are not in it: an address of theirs in a datagram would be forged.
func (b *Bind) indexLocked(e *Endpoint, old, now *route) {
	t := *b.table.Load()
	changed := false
	change := func() {
		if !changed {
			t, changed = maps.Clone(t), true
		}
	}
	for _, a := range []netip.AddrPort{old.pathAddr(), old.spareAddr()} {
		if !a.IsValid() || now.way(a) != nil || t[a] != e {
			continue
		}
		change()
		delete(t, a)
		for _, other := range b.peers {
			if other != e && other.route.Load().way(a) != nil {
				t[a] = other
				break
			}
		}
	}
	for _, a := range []netip.AddrPort{now.pathAddr(), now.spareAddr()} {
		if a.IsValid() && relaypath.Number(a) == 0 && old.way(a) == nil {
			change()
			t[a] = e
		}
	}
	if changed {
		b.table.Store(&t)
	}
}

// Path returns the address all of a peer's packets go to, or the zero value.
func (b *Bind) Path(peer key.Public) netip.AddrPort {
	if e := b.lookup(peer); e != nil {
		return e.path()
	}
	return netip.AddrPort{}
}

// usable reports whether something can be sent to an address.
func (b *Bind) usable(a netip.AddrPort) bool {
	if relaypath.Is(a.Addr()) {
		return relaypath.Number(a) != 0 && b.cfg.Relays != nil
	}
	return reachable(a)
}

// reachable reports whether the socket can send to an address.
func reachable(a netip.AddrPort) bool {
	return a.IsValid() && a.Port() != 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast() && !relaypath.Is(a.Addr())
}
