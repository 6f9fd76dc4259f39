package netstack

import (
	"net"
	"net/netip"
	"os"

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

// receive waits for one datagram; its data is the caller's to release.
func (c *PacketConn) receive() (datagram, error) {
	for {
		expired := c.readDeadline.wait()
		select {
		case <-c.done:
			return datagram{}, c.fail("read", net.ErrClosed)
		default:
		}
		select {
		case <-expired:
			return datagram{}, c.fail("read", os.ErrDeadlineExceeded)
		default:
		}
		d, ok, err := c.inbox.get()
		switch {
		case err != nil:
			return datagram{}, c.fail("read", err)
		case ok:
			return d, nil
		}
		select {
		case <-c.inbox.ready:
		case <-expired:
		case <-c.done:
		}
	}
}

// Receive waits for one datagram and calls take with it. Whoever waits this way
// needs no buffer of the largest size meanwhile. take may not keep b.
func (c *PacketConn) Receive(take func(b []byte, from netip.AddrPort)) error {
	d, err := c.receive()
	if err != nil {
		return err
	}
	if d.data == nil {
		take(nil, d.from)
		return nil
	}
	defer d.data.Release()
	take(d.data.AsSlice(), d.from)
	return nil
}

// ReadFromAddrPort receives one datagram. What does not fit into b is lost.
func (c *PacketConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	d, err := c.receive()
	if err != nil || d.data == nil {
		return 0, d.from, err
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
