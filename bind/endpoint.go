package bind

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/key"
)

// holdFor is how long a handshake message waits for its peer's first path.
// After five seconds WireGuard makes a new one anyway.
const holdFor = 4 * time.Second

var _ conn.Endpoint = (*Endpoint)(nil)

// Endpoint is a peer as WireGuard sees it: one object for as long as the peer
// is known, whatever its path. It implements conn.Endpoint.
type Endpoint struct {
	key  key.Public
	path atomic.Pointer[path] // nil: none
	gone atomic.Bool          // forgotten: another Endpoint may have taken its place

	lastSent, lastReceived atomic.Int64 // nanoseconds after Bind.epoch, 0 never
	txBytes, rxBytes       atomic.Uint64

	mu     sync.Mutex // guards the fields below, and changes of path
	held   []byte     // the newest handshake message that found no path
	heldAt int64
}

// path is one way to a peer. It never changes: a new one takes its place.
type path struct {
	to *conn.StdNetEndpoint // without a source: the routing table chooses it
	// single is set once the system has refused a batch that it takes one by
	// one, as it does with segments larger than the path's MTU.
	single atomic.Bool
}

// hold keeps a copy of msg until a path appears, unless one is there by now:
// then it returns it. replaced reports that an older message was given up.
func (e *Endpoint) hold(msg []byte, now int64) (p *path, replaced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.path.Load(); p != nil {
		return p, false
	}
	replaced = len(e.held) > 0
	e.held = append(e.held[:0], msg...)
	e.heldAt = now
	return nil, replaced
}

// setPath puts p in place and returns the message that waited for it, if it is
// still fresh; expired reports that there was one but too old.
func (e *Endpoint) setPath(p *path, now int64) (held []byte, expired bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.path.Store(p)
	if p == nil || len(e.held) == 0 {
		return nil, false
	}
	held, e.held = e.held, nil
	if now-e.heldAt > int64(holdFor) {
		return nil, true
	}
	return held, false
}

// addr returns the path's address, or the zero value.
func (e *Endpoint) addr() netip.AddrPort {
	if p := e.path.Load(); p != nil {
		return p.to.AddrPort
	}
	return netip.AddrPort{}
}

// Peer returns the key of the peer this is.
func (e *Endpoint) Peer() key.Public { return e.key }

// ClearSrc does nothing: a path has no cached source address.
func (e *Endpoint) ClearSrc() {}

// SrcToString returns nothing, for the same reason.
func (e *Endpoint) SrcToString() string { return "" }

// SrcIP returns the zero address, for the same reason.
func (e *Endpoint) SrcIP() netip.Addr { return netip.Addr{} }

// DstToString returns the text [Bind.ParseEndpoint] takes.
func (e *Endpoint) DstToString() string { return endpointPrefix + e.key.Hex() }

// DstToBytes returns the path's address and port in binary.
func (e *Endpoint) DstToBytes() []byte {
	raw, _ := e.addr().MarshalBinary() // never fails
	return raw
}

// DstIP returns the path's address, or the zero address without a path.
func (e *Endpoint) DstIP() netip.Addr { return e.addr().Addr() }

func parseHex(s string) (key.Public, error) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return key.Public{}, fmt.Errorf("parse endpoint: peer key: %w", err)
	}
	peer, err := key.PublicFromBytes(raw)
	if err != nil {
		return key.Public{}, fmt.Errorf("parse endpoint: %w", err)
	}
	return peer, nil
}
