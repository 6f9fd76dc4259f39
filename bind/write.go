package bind

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"
)

// WriteSTUN sends one datagram from the same socket and returns what the
// system said. It returns net.ErrClosed while the socket is not open. For a
// check through a relay there is [Bind.WriteRelay].
func (b *Bind) WriteSTUN(pkt []byte, to netip.AddrPort) error {
	to = unmap(to)
	if !reachable(to) {
		return fmt.Errorf("send to %s: %w", to, syscall.EDESTADDRREQ)
	}
	if !b.open.Load() {
		return net.ErrClosed
	}
	if _, err := b.transmit([][]byte{pkt}, &conn.StdNetEndpoint{AddrPort: to}, nil); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

// WriteUDP sends datagrams from the same socket to one address, in as few
// system calls as the system allows: it is for relay clients. When none has left
// it returns what the system said, net.ErrClosed while the socket is not open;
// what it refused of them is counted otherwise.
//
// Datagrams of one size leave as segments of one.
func (b *Bind) WriteUDP(packets [][]byte, to netip.AddrPort) error {
	if len(packets) == 0 {
		return nil
	}
	to = unmap(to)
	if !reachable(to) {
		return fmt.Errorf("send to %s: %w", to, syscall.EDESTADDRREQ)
	}
	if !b.open.Load() {
		return net.ErrClosed
	}
	w := b.raw.to(to)
	lost := 0
	var first error
	for batch := range slices.Chunk(packets, b.inner.BatchSize()) {
		refused, err := b.transmit(batch, w.to, w)
		if err == nil {
			continue
		}
		lost += refused.packets
		if errors.Is(err, syscall.EMSGSIZE) {
			b.whole.refused.Add(1)
		}
		if first == nil {
			first = err
		}
	}
	if lost == len(packets) {
		return fmt.Errorf("send to %s: %w", to, first)
	}
	return b.settle(first, lost)
}

// ways holds those to addresses that were written to lately, which are few:
// the relays'. Addresses that fall on the same place take turns.
type ways [16]atomic.Pointer[way]

func (all *ways) to(addr netip.AddrPort) *way {
	ip := addr.Addr().As16()
	at := &all[(uint16(ip[15])^uint16(ip[14])^addr.Port()^addr.Port()>>8)%uint16(len(all))]
	w := at.Load()
	if w == nil || w.addr != addr {
		w = newWay(addr)
		at.Store(w)
	}
	return w
}
