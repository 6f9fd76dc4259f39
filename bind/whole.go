package bind

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"nexd/internal/relaypath"
	"nexd/key"
)

// safeSize is the largest WireGuard packet that every path is taken to carry, in
// bytes: 1280 of the inner packet and 32 of WireGuard's own. Longer ones are what
// [Activity.LastLarge] tells of.
const safeSize = 1280 + 32

// whole is what sends packets that may not be cut.
type whole struct {
	mu      sync.Mutex    // one at a time: it changes an option of the sockets
	refused atomic.Uint64 // datagrams of WriteUDP that the system found too long
}

// unfragmented is a conn.Bind that can send without fragments.
type unfragmented interface {
	// whole calls do while its sockets send nothing in fragments: what is longer
	// than the system knows the path to carry is EMSGSIZE. The error is do's, or
	// errors.ErrUnsupported, then do was not called.
	whole(do func() error) error
}

// WriteWhole sends one datagram to a peer, at an address or through a relay
// (relaypath.Addr), that is not to be fragmented on its way: it arrives whole or
// not at all, which is what a check of a path's size needs. An error that is
// syscall.EMSGSIZE says that this host knows the path to carry less; one that is
// errors.ErrUnsupported that the system cannot send so. It returns net.ErrClosed
// while the socket is not open.
//
// What others send at that moment is not fragmented either. Only this host's leg
// to a relay is asked so much of.
func (b *Bind) WriteWhole(pkt []byte, peer key.Public, to netip.AddrPort) error {
	b.whole.mu.Lock()
	defer b.whole.mu.Unlock()
	if n := relaypath.Number(to); n != 0 {
		return b.unfragmented(func() error {
			before := b.whole.refused.Load()
			err := b.WriteRelay(n, peer, pkt)
			if err != nil && b.whole.refused.Load() != before {
				return syscall.EMSGSIZE // the relay's client says only that it was not sent
			}
			return err
		})
	}
	send := func() error { return b.WriteSTUN(pkt, to) }
	if x := b.extras.at(unmap(to)); x != nil {
		return wholeOn(x.conn, send)
	}
	return b.unfragmented(send)
}

func (b *Bind) unfragmented(do func() error) error {
	if u, ok := b.inner.(unfragmented); ok {
		return u.whole(do)
	}
	return errors.ErrUnsupported
}

// whole implements unfragmented.
func (s *sockets) whole(do func() error) error {
	p := s.now.Load()
	if p == nil {
		return net.ErrClosed
	}
	for _, one := range []*socket{p.v4, p.v6} {
		if one != nil {
			next, c := do, one.conn
			do = func() error { return wholeOn(c, next) }
		}
	}
	return do()
}
