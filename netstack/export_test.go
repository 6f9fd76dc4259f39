package netstack

import "fmt"

// Endpoints is how many transport endpoints gVisor still knows.
func (s *Stack) Endpoints() int {
	return len(s.gvisor.RegisteredEndpoints()) + len(s.gvisor.CleanupEndpoints())
}

// TCPStats sums up what TCP did again.
func (s *Stack) TCPStats() string {
	t := s.gvisor.Stats().TCP
	return fmt.Sprintf("sent %d, again %d, fast %d, SACK recovery %d, RACK recovery %d, TLP %d, timeouts %d, send errors %d, received %d, queue drops %d",
		t.SegmentsSent.Value(), t.Retransmits.Value(), t.FastRetransmit.Value(), t.SACKRecovery.Value(), t.TLPRecovery.Value(), t.TLPRecovery.Value(),
		t.Timeouts.Value(), t.SegmentSendErrors.Value(), t.ValidSegmentsReceived.Value(), t.SegmentsAckedWithDSACK.Value())
}

// Sizes of receive buffers, see window.
const (
	AloneBuffer  = aloneBuffer
	SharedBuffer = sharedBuffer
)

// ReceiveBuffer is the receive buffer's size in bytes, and whether it was set by us.
func (c *Conn) ReceiveBuffer() (size int, set bool) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	return int(c.endpoint.SocketOptions().GetReceiveBufferSize()), c.window.buffer != 0
}
