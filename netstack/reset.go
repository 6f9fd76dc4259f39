package netstack

import (
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Reset ends the connection with a RST: the peer's next Read fails with
// ECONNRESET, and what was not yet delivered is lost. Closing first is no error.
func (c *Conn) Reset() error {
	c.shut(func() {
		c.endpoint.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true})
		c.endpoint.Close()
	})
	return nil
}

// AwaitReset waits, after Read has returned io.EOF, for the news that the
// connection broke all the same, and returns it: ECONNRESET after the peer's
// RST, ETIMEDOUT when keepalive found it gone, once. It returns nil when the connection
// ended properly, was closed, or the read deadline passed.
func (c *Conn) AwaitReset() error {
	w := c.waiting()
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		expired := w.readDeadline.wait()
		if c.state(expired) != nil {
			return nil
		}
		if over, err := c.afterEnd(); over {
			return err
		}
		select {
		case <-w.readable:
		case <-expired:
		case <-w.done:
		}
	}
}

// afterEnd is what became of the connection since the peer's FIN, once nothing
// more can.
func (c *Conn) afterEnd() (over bool, err error) {
	switch tcp.EndpointState(c.endpoint.State()) {
	case tcp.StateTimeWait:
		return true, nil
	case tcp.StateClose:
		// After both FINs, or a RST after the peer's FIN: then gVisor leaves
		// an error, which a Write would not be told.
		if c.endpoint.LastError() != nil {
			return true, c.fail("read", syscall.ECONNRESET)
		}
		return true, nil
	case tcp.StateError:
		if err := c.endpoint.LastError(); err != nil {
			return true, c.fail("read", c.breakWith(err))
		}
		if err := c.ended(); err != nil { // Write was told
			return true, c.fail("read", err)
		}
		return true, nil
	}
	return false, nil
}
