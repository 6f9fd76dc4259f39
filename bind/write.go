package bind

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
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
	if err := b.transmit([][]byte{pkt}, &conn.StdNetEndpoint{AddrPort: to}, nil); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

// WriteUDP sends datagrams from the same socket to one address, in as few
// system calls as the system allows: it is for relay clients. It returns what
// the system said, net.ErrClosed while the socket is not open.
//
// Datagrams of one size leave as segments of one. For that the bytes behind
// the end of a datagram are written to, as far as its capacity goes; datagrams
// that lie one behind the other in one buffer stay as they are, and those
// without capacity to spare are copied.
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
	w := b.raw.Load()
	if w == nil || w.addr != to {
		w = newWay(to)
		b.raw.Store(w)
	}
	if len(packets) > 1 && cap(packets[0]) == len(packets[0]) {
		s := joints.Get().(*joint)
		defer joints.Put(s)
		packets = s.join(packets)
	}
	size := b.inner.BatchSize()
	for len(packets) > 0 {
		n := min(size, len(packets))
		if err := b.transmit(packets[:n], w.to, w); err != nil {
			return fmt.Errorf("send to %s: %w", to, err)
		}
		packets = packets[n:]
	}
	return nil
}

// joint is a buffer in which packets lie one behind the other.
type joint struct {
	buf     []byte
	packets [][]byte
}

var joints = sync.Pool{New: func() any { return new(joint) }}

func (j *joint) join(packets [][]byte) [][]byte {
	if size := total(packets); cap(j.buf) < size {
		j.buf = make([]byte, 0, size)
	}
	j.buf, j.packets = j.buf[:0], j.packets[:0]
	for _, p := range packets {
		at := len(j.buf)
		j.buf = append(j.buf, p...)
		j.packets = append(j.packets, j.buf[at:])
	}
	return j.packets
}
