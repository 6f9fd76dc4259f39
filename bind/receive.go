package bind

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
	"nexd/internal/relaypath"
)

// Waits between reads of a socket that returns errors. wireguard-go's device
// would stop reading for ever after ten, or one it takes for lasting.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = time.Second
)

// receiver reads one inner socket, or the ring, for one goroutine of the device.
type receiver struct {
	bind    *Bind
	inner   conn.ReceiveFunc // nil: the ring
	stop    <-chan struct{}
	relayed class // how relays' packets come here

	// The last sources looked up: of a direct packet, by which table, and of a
	// relayed one. Each has two places and uses them in turn, so that a run's
	// source stays as it is until the run has ended.
	table         *table
	direct, relay *source // nil: none
	places        [4]source
	via           *relayEndpoint // of the last frame
}

// source is where a run of packets came from.
type source struct {
	class class
	peer  *Endpoint      // nil: nobody we know by this address
	addr  netip.AddrPort // of a direct one
	via   *relayEndpoint // of a relayed one
}

// receive is a conn.ReceiveFunc. It takes out what is not WireGuard's and
// returns when something is left, or net.ErrClosed.
func (r *receiver) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	wait := firstRetry
	for {
		n, err := r.inner(bufs, sizes, eps)
		if err == nil {
			wait = firstRetry
			if r.sort(bufs[:n], sizes, eps) {
				return n, nil
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || !r.bind.pause(r.stop, wait, err) {
			return 0, net.ErrClosed
		}
		wait = min(2*wait, lastRetry)
	}
}

// pause waits after an error; false means that the socket was closed.
func (b *Bind) pause(stop <-chan struct{}, wait time.Duration, err error) bool {
	b.count.receiveErrors.Add(1)
	if wait == firstRetry {
		b.log.Warn("udp socket cannot be read, trying again", logkey.Err, err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-stop:
		return false
	case <-timer.C:
		return true
	}
}

// sort clears the sizes of packets that are not WireGuard's, takes those of
// relays out of their frames, and reports whether any are left. It allocates
// nothing for packets of known peers and reads the clock at most once.
func (r *receiver) sort(bufs [][]byte, sizes []int, eps []conn.Endpoint) (some bool) {
	r.refresh()
	run := account{bind: r.bind, handshakes: r.bind.repeats.pending.Load() > 0}
	for i, buf := range bufs {
		if sizes[i] == 0 {
			continue
		}
		pkt := buf[:sizes[i]]
		k := classify(pkt)
		if k == kindRelay {
			run.got.frames++
			pkt, k = r.unwrap(buf, pkt, eps, i)
			sizes[i] = len(pkt)
		}
		switch k {
		case kindWireGuard:
			if src := r.source(eps[i]); src != run.from {
				run.flush()
				run.from = src
			}
			run.packets++
			run.size += len(pkt)
			if (!run.handshakes && pkt[0] == typeTransport) || run.handshake(pkt) {
				some = true
				continue
			}
		case kindSTUN:
			if from := address(eps[i]); from.IsValid() && !relaypath.Is(from.Addr()) {
				run.got.stun++
				r.bind.cfg.OnSTUN(pkt, from)
			}
		case kindGarbage:
			run.got.garbage++
		}
		sizes[i] = 0
	}
	run.flush()
	r.bind.count.received(&run.got)
	return some
}

// unwrap gives a frame to the relays. A WireGuard packet that was in it is
// moved to the front of its buffer; for everything else kind is kindRelay.
func (r *receiver) unwrap(buf, frame []byte, eps []conn.Endpoint, i int) ([]byte, kind) {
	relays := r.bind.cfg.Relays
	if relays == nil {
		r.bind.count.unwanted.Add(1)
		return nil, kindRelay
	}
	n, peer, pkt, ok := relays.HandleUDP(frame, address(eps[i]))
	if !ok || n == 0 || r.bind.relayed(n, peer, pkt) != kindWireGuard || len(pkt) > len(buf) {
		return nil, kindRelay
	}
	if r.via == nil || r.via.relay != n || r.via.key != peer || r.bind.stale(r.via) {
		r.via = r.bind.relayEndpoint(n, peer)
	}
	eps[i] = r.via
	return buf[:copy(buf, pkt)], kindWireGuard
}

// stale reports whether v's peer has become known, or was forgotten, since.
func (b *Bind) stale(v *relayEndpoint) bool {
	if v.peer == nil {
		return b.lookup(v.key) != nil
	}
	return v.peer.gone.Load()
}

// refresh forgets the cached source when routes have changed.
func (r *receiver) refresh() {
	if t := r.bind.table.Load(); t != r.table {
		r.table, r.direct = t, nil
	}
}

// source returns where a packet came from. It changes with the next but one call.
func (r *receiver) source(ep conn.Endpoint) *source {
	if std, ok := ep.(*conn.StdNetEndpoint); ok {
		if r.direct == nil || std.AddrPort != r.direct.addr {
			r.lookUp(address(std))
		}
		return r.direct
	}
	via := ep.(*relayEndpoint)
	if stale := r.bind.stale(via); stale || r.relay == nil || via != r.relay.via {
		s := r.place(2, r.relay)
		s.class, s.via, s.peer = r.relayed, via, via.peer
		if stale {
			s.peer = r.bind.lookup(via.key)
		}
		r.relay = s
	}
	return r.relay
}

// lookUp makes addr the source of the direct packets that follow.
func (r *receiver) lookUp(addr netip.AddrPort) {
	if r.direct != nil && addr == r.direct.addr {
		return
	}
	s := r.place(0, r.direct)
	s.class, s.addr, s.peer = directClass(addr), addr, (*r.table)[addr]
	r.direct = s
}

// place returns that one of two places that is not used.
func (r *receiver) place(first int, used *source) *source {
	if used == &r.places[first] {
		return &r.places[first+1]
	}
	return &r.places[first]
}

// address returns the source of a received packet and, on the way, puts an
// IPv4 address in IPv6 clothes right: the endpoint is ours until it is returned.
func address(ep conn.Endpoint) netip.AddrPort {
	std, ok := ep.(*conn.StdNetEndpoint)
	if !ok {
		return netip.AddrPort{}
	}
	if std.AddrPort.Addr().Is4In6() {
		std.AddrPort = unmap(std.AddrPort)
	}
	return std.AddrPort
}

// account adds up the packets of one run from the same source, and says that
// a peer was heard of.
type account struct {
	bind *Bind
	got  tally // of the whole batch
	now  int64 // 0: the clock was not read yet

	from          *source // of the run; only valid if packets is not 0
	packets, size int

	handshakes bool   // some of ours are unanswered
	transport  bool   // a transport packet was looked up
	index      uint32 // of the last of those
}

// handshake looks at handshake messages, and at data while messages of ours
// are unanswered; false: WireGuard shall not see it.
func (a *account) handshake(pkt []byte) bool {
	b := a.bind
	if pkt[0] == typeInitiation {
		return b.initiation(a.from.peer, pkt)
	}
	if pkt[0] == typeTransport {
		index, _ := answers(pkt)
		if a.transport && index == a.index {
			return true // of a session that was looked up
		}
		a.transport, a.index = true, index
	}
	if !b.repeats.heard(pkt) {
		b.count.copies.Add(1)
		return false
	}
	return true
}

// initiation judges an initiation of a peer; nil: of somebody else. False:
// WireGuard shall not see it.
func (b *Bind) initiation(e *Endpoint, pkt []byte) bool {
	now := b.since()
	if e == nil {
		return b.first(pkt, now)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.repeats.crosses(e.newest, pkt) {
		b.count.crossed.Add(1)
		return false
	}
	if !b.first(pkt, now) {
		return false
	}
	e.askedAt = now
	return true
}

// first reports whether an initiation is no copy of another.
func (b *Bind) first(initiation []byte, now int64) bool {
	if b.seen.copied(initiation, now) {
		b.count.copies.Add(1)
		return false
	}
	return true
}

// flush ends a run.
func (a *account) flush() {
	if a.packets == 0 {
		return
	}
	a.got.paths[a.from.class].packets += a.packets
	a.got.paths[a.from.class].bytes += a.size
	if a.from.peer != nil || a.from.via != nil {
		a.heard()
	}
	a.packets, a.size = 0, 0
}

func (a *account) heard() {
	if a.now == 0 {
		a.now = a.bind.since()
	}
	if e := a.from.peer; e != nil {
		a.note(e)
		a.bind.cfg.OnHeard(e.key)
		return
	}
	a.bind.cfg.OnHeard(a.from.via.key)
	if e := a.bind.lookup(a.from.via.key); e != nil { // it was configured just now
		a.note(e)
	}
}

func (a *account) note(e *Endpoint) {
	e.rxBytes.Add(uint64(a.size))
	if before := e.heardAt.Swap(a.now); a.now-before > int64(backAfter) && a.now < e.unsure.Load() {
		a.bind.recallBack(e)
	}
	path, from := e.route.Load().pathAddr(), a.from.addr
	if v := a.from.via; v != nil {
		e.relay.Store(uint32(v.relay))
		e.relayAt.Store(a.now)
		from = relaypath.Addr(v.relay)
	}
	if path == from {
		e.lastReceived.Store(a.now)
	}
}
