package bind

import (
	"errors"
	"net"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
	"nexd/key"
)

// Send writes the packets by a peer's present route ([*Endpoint]), back to
// where a relay's packet came from, or to a plain address
// (*conn.StdNetEndpoint). The only error it returns is net.ErrClosed: what the
// system says about single packets is counted and is loss, as with any UDP
// packet. Without a path handshake messages wait, others are dropped.
func (b *Bind) Send(bufs [][]byte, ep conn.Endpoint) error {
	switch e := ep.(type) {
	case *Endpoint:
		return b.sendToPeer(bufs, e)
	case *conn.StdNetEndpoint:
		_, err := b.sendDirect(bufs, total(bufs), e, nil)
		return err
	case *relayEndpoint:
		_, err := b.sendRelay(e.relay, e.key, bufs)
		return err
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
	if len(bufs) == 1 && isHandshake(bufs[0]) { // WireGuard sends these alone
		return b.sendHandshake(bufs, e)
	}
	e.recall.keep(bufs, b.since(), e.lastReceived.Load())
	r := e.route.Load()
	if r == nil {
		b.count.noPath.Add(uint64(len(bufs)))
		b.cfg.OnNoPath(e.key)
		return nil
	}
	if h := e.confirms.Load(); h != nil {
		b.repeats.keep(h, bufs)
	}
	size := total(bufs)
	twice := false
	if r.both {
		if twice = r.take(size); twice {
			b.count.doubled.Add(uint64(len(bufs)))
		} else {
			b.count.notDoubled.Add(uint64(len(bufs)))
		}
	}
	return b.sendOver(r, e, bufs, size, twice)
}

// sendHandshake sends a handshake message over all of the route and has it
// repeated, or keeps it until there is a path.
func (b *Bind) sendHandshake(bufs [][]byte, e *Endpoint) error {
	h := newHandshake(e, bufs[0], b.since())
	e.mu.Lock()
	r := e.route.Load()
	h.waits = r == nil
	old := e.newest
	inVain := old != nil && old.waits
	yields := r != nil && h.initiation() && e.owesAnswer(old, h.made)
	if h.yields = yields; r != nil && !yields {
		h.sent = h.made // as of now an initiation of the peer crosses it
	}
	e.newest = h
	e.mu.Unlock()
	b.repeats.drop(old)
	if r == nil {
		b.count.held.Add(1)
		if inVain {
			b.count.expired.Add(1)
		}
		b.cfg.OnNoPath(e.key)
		return nil
	}
	b.repeats.start(h)
	if yields {
		return nil
	}
	return b.sendOver(r, e, bufs, len(bufs[0]), r.spare != nil)
}

// owesAnswer reports whether WireGuard was given an initiation of the peer
// just now and has not answered it. old is the newest message to the peer, or
// nil. The caller holds mu.
func (e *Endpoint) owesAnswer(old *handshake, now int64) bool {
	return e.askedAt != 0 && now-e.askedAt < int64(yieldFor) && (old == nil || old.made < e.askedAt)
}

// repeat sends packets by a timer, over the whole route of now.
func (b *Bind) repeat(h *handshake, packets [][]byte, again bool) {
	r := h.peer.route.Load()
	if r == nil {
		return // a new route takes the message along
	}
	if again {
		b.count.repeated.Add(uint64(len(packets)))
	}
	_ = b.sendOver(r, h.peer, packets, total(packets), r.spare != nil)
}

// sendOver sends over a route's path, and over its spare where twice.
func (b *Bind) sendOver(r *route, e *Endpoint, bufs [][]byte, size int, twice bool) error {
	sent, err := b.sendVia(r.path, e.key, bufs, size)
	if twice {
		again, spareErr := b.sendVia(r.spare, e.key, bufs, size)
		sent = sent || again
		err = errors.Join(err, spareErr)
	}
	if sent {
		now := b.since()
		e.noteSent(now, size)
		if anyLarge(bufs) {
			e.lastLarge.Store(now)
		}
	}
	if err != nil {
		return net.ErrClosed
	}
	return nil
}

// anyLarge reports whether a path of the least size may not carry one of them.
func anyLarge(bufs [][]byte) bool {
	for _, p := range bufs {
		if len(p) > safeSize {
			return true
		}
	}
	return false
}

// sendVia sends to a peer by one way and reports whether anything left. The
// error is net.ErrClosed or nil.
func (b *Bind) sendVia(w *way, peer key.Public, bufs [][]byte, size int) (sent bool, err error) {
	if w.relay != 0 {
		return b.sendRelay(w.relay, peer, bufs)
	}
	return b.sendDirect(bufs, size, w.to, w)
}

// sendDirect sends WireGuard's packets to an address. w may be nil.
func (b *Bind) sendDirect(bufs [][]byte, size int, to *conn.StdNetEndpoint, w *way) (sent bool, err error) {
	lost, err := b.transmit(bufs, to, w)
	if err = b.settle(err, lost.packets); lost.packets == len(bufs) {
		return false, err
	}
	class := directClass(to.AddrPort)
	if w != nil {
		class = w.class
	}
	b.count.tx[class].add(len(bufs)-lost.packets, size-lost.bytes)
	return true, err
}

// loss is what the system refused of some packets.
type loss struct{ packets, bytes int }

func (l *loss) add(packets [][]byte) {
	l.packets += len(packets)
	l.bytes += total(packets)
}

// transmit writes to the socket; packet by packet, when the system refuses
// them as a batch. What it refuses costs nothing else, unless it is said of the
// address: then nothing more is tried. The error is the first. w may be nil.
func (b *Bind) transmit(bufs [][]byte, to *conn.StdNetEndpoint, w *way) (lost loss, first error) {
	for len(bufs) > 0 {
		if w != nil && len(bufs) > 1 && w.refuses(bufs, b.since()) {
			if err := b.transmitEach(bufs, to, &lost); first == nil {
				first = err
			}
			break
		}
		err := b.write(bufs, to)
		if err == nil {
			break
		}
		refused := bufs
		var part *stopped
		if errors.As(err, &part) {
			refused = bufs[part.at : part.at+part.n]
			bufs = bufs[part.at+part.n:]
		} else {
			bufs = nil
		}
		if len(refused) > 1 && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EMSGSIZE)) {
			if err = b.transmitEach(refused, to, &lost); err == nil && w != nil {
				w.refused.Store(int64(largest(refused)))
				w.refusedAt.Store(b.since())
			}
		} else {
			lost.add(refused)
		}
		if first == nil {
			first = err
		}
		if ofAddress(err) {
			lost.add(bufs)
			break
		}
	}
	return lost, first
}

// ofAddress reports whether an error is about where packets go, not about these.
func ofAddress(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return errors.Is(err, net.ErrClosed)
}

// transmitEach sends packets one by one, so that none of them is a segment of
// a larger send: those may not be fragmented. It returns the first error.
func (b *Bind) transmitEach(bufs [][]byte, to *conn.StdNetEndpoint, lost *loss) (first error) {
	for i := range bufs {
		if err := b.write(bufs[i:i+1], to); err != nil {
			lost.add(bufs[i : i+1])
			if first == nil {
				first = err
			}
		}
	}
	return first
}

// write is one send of the socket that is for the address. That the inner
// socket had to give up UDP segmentation on the way is news, not an error.
func (b *Bind) write(bufs [][]byte, to *conn.StdNetEndpoint) error {
	x := b.extras.at(to.AddrPort)
	var err error
	if x != nil {
		err = x.via.send(bufs, x.remote)
	} else {
		err = b.inner.Send(bufs, to)
	}
	if err == nil {
		return nil
	}
	var noGSO conn.ErrUDPGSODisabled // allocated
	if errors.As(err, &noGSO) {
		b.log.Info("udp segmentation offload switched off: the network card refuses it")
		err = noGSO.RetryErr
	}
	if err != nil && x == nil && !b.open.Load() {
		return net.ErrClosed // whatever the inner socket calls it
	}
	return err
}

// settle counts an error of transmit and keeps it from the device, unless the
// socket is closed.
func (b *Bind) settle(err error, packets int) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, net.ErrClosed) && !b.open.Load() {
		return net.ErrClosed
	}
	if first := b.count.sendError(err, packets); first {
		b.log.Debug("packets not sent; further ones are only counted", logkey.Err, err)
	}
	return nil
}

// largest is the size of the largest of packets.
func largest(packets [][]byte) (size int) {
	for _, p := range packets {
		size = max(size, len(p))
	}
	return size
}

// total is the size of packets in bytes.
func total(packets [][]byte) (size int) {
	for _, p := range packets {
		size += len(p)
	}
	return size
}
