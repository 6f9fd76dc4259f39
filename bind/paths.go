package bind

import (
	"maps"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
	"nexd/key"
)

// table finds the peer of a path's address.
type table map[netip.AddrPort]*Endpoint

// Activity is what passed between this node and one peer. Times are zero for
// never. Received means WireGuard's packets from the address of the peer's
// path; they are not authenticated yet, so a forged source counts too.
type Activity struct {
	LastSent, LastReceived time.Time
	TxBytes, RxBytes       uint64
}

// SetPath sends a peer's packets to an address from now on; an invalid address
// takes its path away. The newest handshake message that waits for a path, or
// that went over another one and was not answered, is sent over a new path at
// once while it is at most 4 s old: the old path may have been dead, and
// WireGuard drops the second copy of a message it has. An address
// nothing can be sent to (unspecified, multicast, port 0) counts as none. IPv6
// link-local addresses cannot be reached: the inner socket drops their zone.
func (b *Bind) SetPath(peer key.Public, to netip.AddrPort) {
	to = unmap(to)
	if !usable(to) {
		if to.IsValid() {
			b.log.Debug("unusable path", logkey.Peer, peer.Short(), logkey.Addr, to)
		}
		to = netip.AddrPort{}
	}
	e, msg := b.setPath(peer, to)
	if msg == nil {
		return
	}
	// An error is counted; WireGuard tries again by itself.
	if p := e.path.Load(); p != nil {
		_ = b.sendOver(p, [][]byte{msg}, e)
	}
}

// setPath returns the message to send over the new path, if there is one.
func (b *Bind) setPath(peer key.Public, to netip.AddrPort) (e *Endpoint, msg []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e = b.peers[peer]
	if e == nil {
		if !to.IsValid() {
			return nil, nil
		}
		e = b.addLocked(peer)
	}
	old := e.addr()
	if old == to {
		return e, nil
	}
	var p *path
	if to.IsValid() {
		p = &path{to: &conn.StdNetEndpoint{AddrPort: to}}
	}
	msg, waited, expired := e.setPath(p, b.since())
	switch {
	case expired:
		b.count.expired.Add(1)
	case waited:
		b.count.flushed.Add(1)
	case msg != nil:
		b.count.repeated.Add(1)
	}
	b.moveLocked(e, old, to)
	return e, msg
}

// moveLocked replaces the address table. When two peers claim one address the
// newer claim has it; the older gets it back when the newer one goes.
func (b *Bind) moveLocked(e *Endpoint, old, to netip.AddrPort) {
	t := maps.Clone(*b.table.Load())
	if old.IsValid() && t[old] == e {
		delete(t, old)
		for _, other := range b.peers {
			if other != e && other.addr() == old {
				t[old] = other
				break
			}
		}
	}
	if to.IsValid() {
		t[to] = e
	}
	b.table.Store(&t)
}

// Path returns the address a peer's packets go to, or the zero value.
func (b *Bind) Path(peer key.Public) netip.AddrPort {
	if e := b.lookup(peer); e != nil {
		return e.addr()
	}
	return netip.AddrPort{}
}

// Forget drops all that is kept of a peer: its path, its held message and its
// counters. It is for peers that have left, after the tunnel dropped them.
func (b *Bind) Forget(peer key.Public) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.peers[peer]
	if e == nil {
		return
	}
	delete(b.peers, peer)
	e.gone.Store(true)
	old := e.addr()
	e.setPath(nil, 0)
	b.moveLocked(e, old, netip.AddrPort{})
}

// Activity returns what passed between this node and a peer.
func (b *Bind) Activity(peer key.Public) Activity {
	e := b.lookup(peer)
	if e == nil {
		return Activity{}
	}
	return Activity{
		LastSent:     b.moment(e.lastSent.Load()),
		LastReceived: b.moment(e.lastReceived.Load()),
		TxBytes:      e.txBytes.Load(),
		RxBytes:      e.rxBytes.Load(),
	}
}

// endpoint returns the one Endpoint of a peer, making it where there is none.
func (b *Bind) endpoint(peer key.Public) *Endpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.peers[peer]; e != nil {
		return e
	}
	return b.addLocked(peer)
}

func (b *Bind) addLocked(peer key.Public) *Endpoint {
	e := &Endpoint{key: peer}
	b.peers[peer] = e
	return e
}

func (b *Bind) lookup(peer key.Public) *Endpoint {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.peers[peer]
}

func usable(a netip.AddrPort) bool {
	return a.IsValid() && a.Port() != 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast()
}
