package bind

import (
	"time"

	"nexd/key"
)

// Activity is what passed between this node and one peer. Times are zero for
// never. What was received is not authenticated yet, so a forged source counts too.
type Activity struct {
	// LastSent is when the socket or a relay last took a packet for the peer,
	// LastReceived when a WireGuard packet last came by the route's Path: from
	// that address, or through that very relay.
	LastSent, LastReceived time.Time
	// LastLarge is when the last packet of more than 1312 bytes was sent, which
	// not every path carries.
	LastLarge time.Time
	// WireGuard's bytes to the peer, those sent twice once, and from it: from
	// the addresses of its route and through all relays.
	TxBytes, RxBytes uint64
	// Relay is the one a WireGuard packet of the peer last came through, at
	// RelayAt; 0: none yet.
	Relay   uint16
	RelayAt time.Time
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
		LastLarge:    b.moment(e.lastLarge.Load()),
		TxBytes:      e.txBytes.Load(),
		RxBytes:      e.rxBytes.Load(),
		Relay:        uint16(e.relay.Load()),
		RelayAt:      b.moment(e.relayAt.Load()),
	}
}

// noteSent counts what went on its way to the peer.
func (e *Endpoint) noteSent(now int64, size int) {
	e.lastSent.Store(now)
	e.txBytes.Add(uint64(size))
}

// Forget drops all that is kept of a peer: its route, its handshake message and
// its counters. It is for peers that have left, after the tunnel dropped them.
func (b *Bind) Forget(peer key.Public) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.peers[peer]
	if e == nil {
		return
	}
	delete(b.peers, peer)
	e.gone.Store(true)
	old := e.route.Load()
	e.mu.Lock()
	e.route.Store(nil)
	b.repeats.drop(e.newest)
	e.newest = nil
	e.mu.Unlock()
	b.indexLocked(e, old, nil)
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
