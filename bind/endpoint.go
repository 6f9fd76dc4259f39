package bind

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/key"
)

// holdFor is how long a handshake message waits for its peer's path, and how
// long one that was not answered is repeated over a new path. After five
// seconds WireGuard makes a new one anyway.
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

	mu        sync.Mutex // guards the fields below, and changes of path
	message   []byte     // the newest handshake message to the peer
	messageAt int64
	waits     bool // it found no path; otherwise it was sent over the path of its time
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
	replaced = e.waits
	e.keep(msg, now, true)
	return nil, replaced
}

// remember keeps a copy of msg, which is about to be sent over the path it
// returns; nil if there is none any more.
func (e *Endpoint) remember(msg []byte, now int64) *path {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.path.Load()
	if p != nil {
		e.keep(msg, now, false)
	}
	return p
}

// keep replaces the kept message. The caller holds mu.
func (e *Endpoint) keep(msg []byte, now int64, waits bool) {
	e.message = append(e.message[:0], msg...)
	e.messageAt, e.waits = now, waits
}

// setPath puts p in place and returns a copy of the handshake message to send
// over it: one that waited, or one that went over another path and was not
// answered since. waited says which; expired reports that one waited too long.
func (e *Endpoint) setPath(p *path, now int64) (msg []byte, waited, expired bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.path.Store(p)
	if p == nil || len(e.message) == 0 {
		return nil, false, false
	}
	waited, e.waits = e.waits, false
	if now-e.messageAt > int64(holdFor) {
		e.message = nil
		return nil, false, waited
	}
	if !waited && e.lastReceived.Load() > e.messageAt {
		return nil, false, false
	}
	return bytes.Clone(e.message), waited, false
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
