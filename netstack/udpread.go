package netstack

import (
	"net"
	"net/netip"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// collect moves what has arrived into the inbox. gVisor bounds its own queue in
// bytes only, so empty datagrams would fill it without end; ours counts packets
// too, and gVisor's stays empty.
func (c *PacketConn) collect() {
	for {
		var s viewSink
		result, err := c.endpoint.Read(&s, tcpip.ReadOptions{NeedRemoteAddr: true})
		switch err.(type) {
		case nil, *tcpip.ErrBadBuffer: // an empty datagram has nothing to read
			if !c.inbox.put(datagram{from: fromFull(result.RemoteAddr), data: s.view}) {
				c.stack.link.counters.udpFull.Add(1)
			}
		case *tcpip.ErrWouldBlock:
			return
		case *tcpip.ErrClosedForReceive:
			c.inbox.close(net.ErrClosed)
			return
		default:
			c.inbox.fail(errno(err))
		}
	}
}

// viewSink keeps what is written to it in gVisor's pooled memory.
type viewSink struct{ view *buffer.View }

func (s *viewSink) Write(p []byte) (int, error) {
	if s.view == nil {
		s.view = buffer.NewViewWithData(p)
		return len(p), nil
	}
	return s.view.Write(p)
}

// await waits until the inbox has something, or why it never will.
func (c *PacketConn) await() error {
	for {
		expired := c.readDeadline.wait()
		select {
		case <-c.done:
			return c.fail("read", net.ErrClosed)
		default:
		}
		select {
		case <-expired:
			return c.fail("read", os.ErrDeadlineExceeded)
		default:
		}
		if !c.inbox.empty() {
			return nil
		}
		select {
		case <-c.inbox.ready:
		case <-expired:
		case <-c.done:
		}
	}
}

// receive moves datagrams to dst once there are any; their data is the caller's
// to release.
func (c *PacketConn) receive(dst []datagram) (int, error) {
	for {
		if err := c.await(); err != nil {
			return 0, err
		}
		switch n, err := c.inbox.get(dst); {
		case err != nil:
			return 0, c.fail("read", err)
		case n > 0:
			return n, nil
		}
	}
}

// receiveMost is how many datagrams Receive hands out at a time.
const receiveMost = 64

// handout is what Receive needs while there are datagrams.
type handout struct {
	list [receiveMost]datagram
	data [receiveMost][]byte
	from [receiveMost]netip.AddrPort
}

var handouts = sync.Pool{New: func() any { return new(handout) }}

// Receive waits for datagrams and calls take once, with those that are there and
// their senders. Whoever waits this way needs no buffer meanwhile. take may not
// keep what it is given.
func (c *PacketConn) Receive(take func(data [][]byte, from []netip.AddrPort)) error {
	if err := c.await(); err != nil {
		return err
	}
	h := handouts.Get().(*handout)
	defer handouts.Put(h)
	n, err := c.receive(h.list[:])
	if err != nil {
		return err
	}
	for i, d := range h.list[:n] {
		h.from[i] = d.from
		if d.data != nil {
			h.data[i] = d.data.AsSlice()
		}
	}
	take(h.data[:n], h.from[:n])
	for _, d := range h.list[:n] {
		if d.data != nil {
			d.data.Release()
		}
	}
	clear(h.list[:n])
	clear(h.data[:n])
	return nil
}

// ReadFromAddrPort receives one datagram. What does not fit into b is lost.
func (c *PacketConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	var one [1]datagram
	if _, err := c.receive(one[:]); err != nil {
		return 0, netip.AddrPort{}, err
	}
	d := one[0]
	if d.data == nil {
		return 0, d.from, nil
	}
	n := copy(b, d.data.AsSlice())
	d.data.Release()
	return n, d.from, nil
}

// ReadFrom is ReadFromAddrPort as in net.PacketConn; the address is a *net.UDPAddr.
func (c *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// Read receives one datagram.
func (c *PacketConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFromAddrPort(b)
	return n, err
}
