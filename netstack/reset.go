package netstack

import (
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Reset ends the connection with a RST: the peer's next Read fails with
// ECONNRESET, and what was not yet delivered is lost. Closing first is no error.
func (c *Conn) Reset() error {
	c.closeOnce.Do(func() {
		close(c.done)
		c.endpoint.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true})
		c.endpoint.Close()
		c.release()
	})
	return nil
}

// AwaitReset waits, after Read has returned io.EOF, for the news that the
// connection broke all the same, and returns it: ECONNRESET after the peer's
// RST, ETIMEDOUT when keepalive found it gone, once. It returns nil when the connection
// ended properly, was closed, or the read deadline passed.
func (c *Conn) AwaitReset() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		expired := c.readDeadline.wait()
		if c.state(expired) != nil {
			return nil
		}
		switch tcp.EndpointState(c.endpoint.State()) {
		case tcp.StateTimeWait:
			return nil
		case tcp.StateClose:
			// After both FINs, or a RST after the peer's FIN: then gVisor leaves
			// an error, which a Write would not be told.
			if c.endpoint.LastError() != nil {
				return c.fail("read", syscall.ECONNRESET)
			}
			return nil
		case tcp.StateError:
			if err := c.endpoint.LastError(); err != nil {
				return c.fail("read", c.breakWith(err))
			}
			if err := c.ended(); err != nil { // Write was told
				return c.fail("read", err)
			}
			return nil
		}
		select {
		case <-c.readable:
		case <-expired:
		case <-c.done:
		}
	}
}
