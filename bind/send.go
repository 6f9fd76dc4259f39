package bind

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
)

// Send writes the packets to a peer's present path ([*Endpoint]) or to a plain
// address (*conn.StdNetEndpoint). The only error it returns is net.ErrClosed:
// what the system says about single packets is counted and is loss, as with
// any UDP packet. Without a path handshake messages wait, others are dropped.
func (b *Bind) Send(bufs [][]byte, ep conn.Endpoint) error {
	switch e := ep.(type) {
	case *Endpoint:
		return b.sendToPeer(bufs, e)
	case *conn.StdNetEndpoint:
		return b.settle(b.transmit(bufs, e, nil), len(bufs))
	}
	return conn.ErrWrongEndpointType
}

func (b *Bind) sendToPeer(bufs [][]byte, e *Endpoint) error {
	if e.gone.Load() {
		if e = b.lookup(e.key); e == nil { // the device was slower than Forget
			b.count.noPath.Add(uint64(len(bufs)))
			return nil
		}
	}
	p := e.path.Load()
	if p != nil && len(bufs) == 1 && isHandshake(bufs[0]) { // WireGuard sends these alone
		p = e.remember(bufs[0], b.since())
	}
	if p == nil {
		if p = b.withoutPath(bufs, e); p == nil {
			return nil
		}
	}
	return b.sendOver(p, bufs, e)
}

// sendOver sends to a peer over one of its paths.
func (b *Bind) sendOver(p *path, bufs [][]byte, e *Endpoint) error {
	if err := b.transmit(bufs, p.to, p); err != nil {
		return b.settle(err, len(bufs))
	}
	size := 0
	for _, buf := range bufs {
		size += len(buf)
	}
	e.lastSent.Store(b.since())
	e.txBytes.Add(uint64(size))
	return nil
}

// withoutPath keeps what is worth keeping and counts the rest. It returns the
// path that appeared meanwhile, in which case nothing was kept.
func (b *Bind) withoutPath(bufs [][]byte, e *Endpoint) *path {
	now := b.since()
	for _, buf := range bufs {
		if !isHandshake(buf) {
			b.count.noPath.Add(1)
			continue
		}
		p, replaced := e.hold(buf, now)
		if p != nil {
			return p
		}
		b.count.held.Add(1)
		if replaced {
			b.count.expired.Add(1)
		}
	}
	b.cfg.OnNoPath(e.key)
	return nil
}

// WriteSTUN sends one datagram from the same socket and returns what the
// system said. It returns net.ErrClosed while the socket is not open.
func (b *Bind) WriteSTUN(pkt []byte, to netip.AddrPort) error {
	to = unmap(to)
	if !usable(to) {
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

// transmit writes to the socket, twice where a second try can help: without
// the cached source address when the host may have lost it, and packet by
// packet when the system refuses them as a batch. p may be nil.
func (b *Bind) transmit(bufs [][]byte, to *conn.StdNetEndpoint, p *path) error {
	if p != nil && len(bufs) > 1 && p.single.Load() {
		return b.transmitEach(bufs, to)
	}
	err := b.write(bufs, to)
	if err == nil {
		return nil
	}
	if sourceMayBeGone(err) && to.SrcIP().IsValid() {
		to = &conn.StdNetEndpoint{AddrPort: to.AddrPort}
		if err = b.write(bufs, to); err == nil {
			return nil
		}
	}
	if len(bufs) > 1 && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EMSGSIZE)) {
		if err = b.transmitEach(bufs, to); err == nil && p != nil {
			p.single.Store(true)
		}
	}
	return err
}

// transmitEach sends packets one by one, so that none of them is a segment of
// a larger send: those may not be fragmented. It returns the first error.
func (b *Bind) transmitEach(bufs [][]byte, to *conn.StdNetEndpoint) error {
	var first error
	for i := range bufs {
		if err := b.write(bufs[i:i+1], to); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// write is one send of the inner socket. That it had to give up UDP
// segmentation on the way is news, not an error.
func (b *Bind) write(bufs [][]byte, to *conn.StdNetEndpoint) error {
	err := b.inner.Send(bufs, to)
	var noGSO conn.ErrUDPGSODisabled
	if errors.As(err, &noGSO) {
		b.log.Info("udp segmentation offload switched off: the network card refuses it")
		err = noGSO.RetryErr
	}
	if err != nil && !b.open.Load() {
		return net.ErrClosed // the inner socket calls it EAFNOSUPPORT
	}
	return err
}

// settle counts an error of transmit and keeps it from the device, unless the
// socket is closed.
func (b *Bind) settle(err error, packets int) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, net.ErrClosed) {
		return net.ErrClosed
	}
	if first := b.count.sendError(err, packets); first {
		b.log.Debug("packets not sent; further ones are only counted", logkey.Err, err)
	}
	return nil
}

// sourceMayBeGone reports errors that a source address which the host no
// longer has may cause.
func sourceMayBeGone(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EINVAL, syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.EHOSTUNREACH} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
