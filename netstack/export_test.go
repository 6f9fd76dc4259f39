package netstack

// Endpoints is how many transport endpoints gVisor still knows.
func (s *Stack) Endpoints() int {
	return len(s.gvisor.RegisteredEndpoints()) + len(s.gvisor.CleanupEndpoints())
}

// Recoveries is how often TCP took something for lost because of what was
// acknowledged, and Timeouts how often because nothing was.
func (s *Stack) Recoveries() uint64 {
	t := s.gvisor.Stats().TCP
	return t.FastRetransmit.Value() + t.SACKRecovery.Value()
}

func (s *Stack) Timeouts() uint64 { return s.gvisor.Stats().TCP.Timeouts.Value() }

// ReceiveDefault is the receive buffer a connection begins with, in bytes.
const ReceiveDefault = tcpReceiveDefault

// QueueWait is how long nobody may read before TCP data is dropped.
const QueueWait = queueWait

// ReceiveBuffer is the receive buffer's size in bytes.
func (c *Conn) ReceiveBuffer() int {
	return int(c.endpoint.SocketOptions().GetReceiveBufferSize())
}

// Near reports whether the peer is taken for near.
func (c *Conn) Near() bool { return c.near.holds() }
