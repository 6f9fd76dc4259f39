package node

import (
	"net/netip"
	"slices"
	"sync"

	"nexd/controlapi"
	"nexd/key"
	"nexd/netstack"
)

// sizes brings the size of packets to each member, and that its path is another
// one, from discovery, which knows members by their keys, to the stack, which knows
// addresses. Members that were never talked to cost nothing.
type sizes struct {
	stack pathStack

	mu        sync.Mutex // guards the fields below, and the order of calls
	mtus      map[key.Public]int
	paths     map[key.Public]netip.AddrPort // those there are
	addresses map[key.Public][]netip.Addr
}

// pathStack is what of the stack is told.
type pathStack interface {
	SetPathMTU(to netip.Addr, mtu int) // 0 forgets
	PathMoved(to netip.Addr)
}

func newSizes(stack pathStack) *sizes {
	return &sizes{stack: stack, mtus: make(map[key.Public]int), paths: make(map[key.Public]netip.AddrPort)}
}

// path takes the path to a member; an invalid one: there is none.
func (s *sizes) path(peer key.Public, path netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.paths[peer]
	if !path.IsValid() {
		delete(s.paths, peer)
		return // what comes next tells
	}
	s.paths[peer] = path
	if path == before {
		return
	}
	for _, a := range s.addresses[peer] {
		s.stack.PathMoved(a)
	}
}

// tell takes what discovery says of a member; 0: it is none any more. One that is
// back meanwhile may be in use already.
func (s *sizes) tell(peer key.Public, mtu int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, back := s.addresses[peer]; back && mtu == 0 {
		mtu = netstack.MinMTU
	}
	s.tellLocked(peer, mtu)
}

func (s *sizes) tellLocked(peer key.Public, mtu int) {
	if mtu == 0 {
		delete(s.mtus, peer)
	} else {
		s.mtus[peer] = mtu
	}
	for _, a := range s.addresses[peer] {
		s.stack.SetPathMTU(a, mtu)
	}
}

// used: the first packet to a member is on its way, and discovery has not heard
// of it yet.
func (s *sizes) used(peer key.Public) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mtus[peer] == 0 {
		s.tellLocked(peer, netstack.MinMTU)
	}
}

// members takes a new list of them.
func (s *sizes) members(list []controlapi.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[key.Public][]netip.Addr, len(list))
	for _, d := range list {
		next[d.PublicKey] = d.Addresses
	}
	before := s.addresses
	s.addresses = next
	for peer := range s.mtus {
		if !slices.Equal(before[peer], next[peer]) {
			for _, a := range before[peer] {
				s.stack.SetPathMTU(a, 0)
			}
		}
	}
	// After all that goes: an address may have another owner now.
	for peer, mtu := range s.mtus {
		if !slices.Equal(before[peer], next[peer]) {
			for _, a := range next[peer] {
				s.stack.SetPathMTU(a, mtu)
			}
		}
		if next[peer] == nil {
			delete(s.mtus, peer)
		}
	}
}

// of is the size of packets to a member; 0: nobody has talked to it.
func (s *sizes) of(peer key.Public) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mtus[peer]
}
