package netstack

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// errAddressGone is what a datagram socket says whose address was taken away.
var errAddressGone = fmt.Errorf("the socket's mesh address was taken away: %w", syscall.EADDRNOTAVAIL)

// adopt makes the stack tell c when its address goes. It refuses a socket whose
// address went, or whose stack was closed, while it was made.
func (s *Stack) adopt(c *PacketConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkOpen(); err != nil {
		return err
	}
	if addr := c.local.Addr(); addr.IsValid() && !addr.IsUnspecified() && !slices.Contains(s.addresses, addr) {
		return syscall.EADDRNOTAVAIL
	}
	s.sockets[c] = struct{}{}
	return nil
}

func (s *Stack) disown(c *PacketConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, c)
}

// cutSocketsLocked fails the datagram sockets on the given addresses. s.mu is held.
func (s *Stack) cutSocketsLocked(gone []netip.Addr) {
	for c := range s.sockets {
		if slices.Contains(gone, c.local.Addr()) {
			c.gone.Store(true)
			c.inbox.close(errAddressGone)
			delete(s.sockets, c)
		}
	}
}
