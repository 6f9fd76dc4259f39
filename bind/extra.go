package bind

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"
)

// maxExtra bounds the extra sockets; so many holes that only one socket has
// are worth keeping open.
const maxExtra = 16

const (
	// extraBuffer is the receive buffer of an extra socket in bytes, as far as the
	// system grants it.
	extraBuffer = 7 << 20
	// extraPackets are read at once.
	extraPackets = 16
)

// extra is a socket for one remote address.
type extra struct {
	conn   *net.UDPConn
	via    carrier
	remote netip.AddrPort
	stop   chan struct{} // closed with conn
	done   chan struct{} // closed when its reader has ended
}

// extras are the extra sockets of a bind.
type extras struct {
	byRemote atomic.Pointer[map[netip.AddrPort]*extra] // nil: none; replaced, never changed

	mu     sync.Mutex // guards changes of byRemote, and the field below
	closed bool
}

// at returns the socket of a remote address, or nil.
func (x *extras) at(remote netip.AddrPort) *extra {
	if m := x.byRemote.Load(); m != nil {
		return (*m)[remote]
	}
	return nil
}

// AddSocket has all packets to and from remote use conn from now on: a hole in
// a NAT that only this socket has. What comes to it from elsewhere is dropped.
// There may be 16 of them; another one for the same remote replaces it. conn
// belongs to the bind as of the call: RemoveSocket or Close close it, and so
// does AddSocket when it returns an error, net.ErrClosed before the first Open
// and after Close.
func (b *Bind) AddSocket(c *net.UDPConn, remote netip.AddrPort) error {
	remote = unmap(remote)
	if !reachable(remote) {
		c.Close()
		return fmt.Errorf("add a socket for %s: %w", remote, syscall.EDESTADDRREQ)
	}
	v6 := c.LocalAddr().(*net.UDPAddr).IP.To4() == nil
	x := &extra{conn: c, via: newSmallCarrier(c, v6, b.log), remote: remote, stop: make(chan struct{}), done: make(chan struct{})}
	old, err := b.extras.add(x)
	if err != nil {
		c.Close()
		return fmt.Errorf("add a socket for %s: %w", remote, err)
	}
	go b.readExtra(x)
	old.close()
	old.wait()
	return nil
}

// RemoveSocket closes the extra socket of a remote address, if there is one.
func (b *Bind) RemoveSocket(remote netip.AddrPort) {
	x := b.extras.remove(unmap(remote))
	x.close()
	x.wait()
}

func (x *extras) add(e *extra) (old *extra, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil, net.ErrClosed
	}
	m := make(map[netip.AddrPort]*extra, 1)
	if now := x.byRemote.Load(); now != nil {
		maps.Copy(m, *now)
	}
	if old = m[e.remote]; old == nil && len(m) >= maxExtra {
		return nil, fmt.Errorf("there are %d already", maxExtra)
	}
	m[e.remote] = e
	x.byRemote.Store(&m)
	return old, nil
}

func (x *extras) remove(remote netip.AddrPort) *extra {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.byRemote.Load()
	if now == nil || (*now)[remote] == nil {
		return nil
	}
	m := maps.Clone(*now)
	delete(m, remote)
	if len(m) == 0 {
		x.byRemote.Store(nil)
	} else {
		x.byRemote.Store(&m)
	}
	return (*now)[remote]
}

// open allows sockets to be added.
func (x *extras) open() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = false
}

// close closes all sockets and returns them; the caller waits for their readers.
func (x *extras) close() []*extra {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	now := x.byRemote.Swap(nil)
	if now == nil {
		return nil
	}
	var all []*extra
	for _, e := range *now {
		e.close()
		all = append(all, e)
	}
	return all
}

// The methods of a nil socket do nothing.

func (e *extra) close() {
	if e != nil {
		close(e.stop)
		e.conn.Close()
	}
}

func (e *extra) wait() {
	if e != nil {
		<-e.done
	}
}

// readExtra moves what comes from the remote address into the ring, until the
// socket is closed.
func (b *Bind) readExtra(x *extra) {
	defer close(x.done)
	room := make([]byte, extraPackets*65535) // hardly any of it is ever touched
	var bufs [extraPackets][]byte
	for i := range bufs {
		bufs[i] = room[i*65535 : (i+1)*65535]
	}
	var sizes [extraPackets]int
	var eps [extraPackets]conn.Endpoint
	from := &conn.StdNetEndpoint{AddrPort: x.remote}
	wait := firstRetry
	for {
		n, err := x.via.receive(bufs[:], sizes[:], eps[:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !b.pause(x.stop, wait, err) {
				return
			}
			wait = min(2*wait, lastRetry)
			continue
		}
		wait = firstRetry
		for i := range n {
			if address(eps[i]) != x.remote {
				b.count.foreign.Add(1)
				continue
			}
			b.count.ring.Add(uint64(b.ring.push(from, bufs[i][:sizes[i]])))
		}
	}
}
