package netstack

// Endpoints is how many transport endpoints gVisor still knows.
func (s *Stack) Endpoints() int {
	return len(s.gvisor.RegisteredEndpoints()) + len(s.gvisor.CleanupEndpoints())
}
