package bind

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
)

// Waits between reads of a socket that returns errors. wireguard-go's device
// would stop reading for ever after ten, or one it takes for lasting.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = time.Second
)

// receiver reads one inner socket for one goroutine of the device.
type receiver struct {
	bind  *Bind
	inner conn.ReceiveFunc
	stop  <-chan struct{}

	// The last source looked up, and in which table.
	table *table
	addr  netip.AddrPort
	peer  *Endpoint
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
		if errors.Is(err, net.ErrClosed) || !r.pause(wait, err) {
			return 0, net.ErrClosed
		}
		wait = min(2*wait, lastRetry)
	}
}

// pause waits after an error; false means that the bind was closed.
func (r *receiver) pause(wait time.Duration, err error) bool {
	r.bind.count.receiveErrors.Add(1)
	if wait == firstRetry {
		r.bind.log.Warn("udp socket cannot be read, trying again", logkey.Err, err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-r.stop:
		return false
	case <-timer.C:
		return true
	}
}

// sort clears the sizes of packets that are not WireGuard's and reports
// whether any are left. It allocates nothing and reads the clock at most once.
func (r *receiver) sort(bufs [][]byte, sizes []int, eps []conn.Endpoint) bool {
	var wireguard, stun, relay, garbage uint64
	r.refresh()
	run := account{bind: r.bind}
	for i, buf := range bufs {
		if sizes[i] == 0 {
			continue
		}
		pkt := buf[:sizes[i]]
		k := classify(pkt)
		if k == kindWireGuard {
			wireguard++
			run.add(r.source(eps[i]), len(pkt))
			continue
		}
		sizes[i] = 0
		switch k {
		case kindSTUN:
			stun++
			if from := address(eps[i]); from.IsValid() {
				r.bind.cfg.OnSTUN(pkt, from)
			}
		case kindRelay:
			relay++
		default:
			garbage++
		}
	}
	run.flush()
	r.bind.count.received(wireguard, stun, relay, garbage)
	return wireguard > 0
}

// refresh forgets the cached source when paths have changed.
func (r *receiver) refresh() {
	if t := r.bind.table.Load(); t != r.table {
		r.table, r.addr, r.peer = t, netip.AddrPort{}, nil
	}
}

// source returns the peer whose path leads to where the packet came from, or nil.
func (r *receiver) source(ep conn.Endpoint) *Endpoint {
	addr := address(ep)
	if addr != r.addr {
		r.addr, r.peer = addr, (*r.table)[addr]
	}
	return r.peer
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

// account adds up the packets of one run from the same peer, and says that it
// was heard of.
type account struct {
	bind *Bind
	now  int64
	peer *Endpoint
	size int
}

func (a *account) add(peer *Endpoint, size int) {
	if peer != a.peer {
		a.flush()
		a.peer, a.size = peer, 0
	}
	a.size += size
}

func (a *account) flush() {
	if a.peer == nil {
		return
	}
	if a.now == 0 {
		a.now = a.bind.since()
	}
	a.peer.lastReceived.Store(a.now)
	a.peer.rxBytes.Add(uint64(a.size))
	a.bind.cfg.OnHeard(a.peer.key)
}
