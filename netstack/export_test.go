package netstack

import "fmt"

// Endpoints is how many transport endpoints gVisor still knows.
func (s *Stack) Endpoints() int {
	return len(s.gvisor.RegisteredEndpoints()) + len(s.gvisor.CleanupEndpoints())
}

// TCPStats sums up what TCP did again.
func (s *Stack) TCPStats() string {
	t := s.gvisor.Stats().TCP
	return fmt.Sprintf("sent %d, again %d, fast %d, SACK recovery %d, TLP %d, timeouts %d, send errors %d, received %d, DSACKs %d",
		t.SegmentsSent.Value(), t.Retransmits.Value(), t.FastRetransmit.Value(), t.SACKRecovery.Value(), t.TLPRecovery.Value(),
		t.Timeouts.Value(), t.SegmentSendErrors.Value(), t.ValidSegmentsReceived.Value(), t.SegmentsAckedWithDSACK.Value())
}

// ReceiveDefault is the receive buffer a connection begins with, in bytes.
const ReceiveDefault = tcpReceiveDefault

// ReceiveBuffer is the receive buffer's size in bytes.
func (c *Conn) ReceiveBuffer() int {
	return int(c.endpoint.SocketOptions().GetReceiveBufferSize())
}

// Near reports whether the peer is taken for near.
func (c *Conn) Near() bool { return c.near.holds() }
