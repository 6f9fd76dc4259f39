package relay

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"nexd/key"
)

// session is an admitted device. The data path reads it without a lock.
type session struct {
	network *network
	device  key.Public
	secret  [32]byte // of the pair
	tag     uint32   // what the client writes into its frames

	link    atomic.Pointer[link]
	ended   atomic.Bool
	heard   atomic.Int64 // when a frame with the right tag came, nanoseconds since the server's start
	bytes   bucket
	packets bucket
	notices bucket

	// channels by number; index 0 is never used. The slice is replaced to grow, its cells are not.
	channels atomic.Pointer[[]atomic.Pointer[channel]]

	// mu guards the fields below. It may be taken under table.mu, not the other way.
	mu     sync.Mutex
	byPeer map[key.Public]uint32

	// table.mu guards the fields below.
	epoch      uint64
	credential [credentialSize]byte
	expires    int64 // nanoseconds since the server's start
	welcome    []byte
	authMAC    mac
}

// link is the way to a session's client; it is replaced, never changed.
type link struct {
	tag  uint32 // what the relay writes into frames to the client
	udp  *Socket
	addr netip.AddrPort
	tls  *tlsConn // nil: UDP
}

// channel is one entry of a session's table: a number of the client for a peer.
type channel struct {
	peer  key.Public
	route atomic.Pointer[route]
}

// route is where a channel leads, as long as to has not ended.
type route struct {
	to     *session
	number uint32 // of the receiver for the sender; 0: it has none yet
}

// channel returns the entry of a number, or nil.
func (s *session) channel(number uint32) *channel {
	table := s.channels.Load()
	if table == nil || number == 0 || int(number) >= len(*table) {
		return nil
	}
	return (*table)[number].Load()
}

// open gives a peer a channel and reports whether it is new. Who was sending
// to this session with its key may use the number from now on: see [server.agree].
func (s *session) open(number uint32, peer key.Public) (fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byPeer[peer] == number {
		return false
	}
	if s.byPeer == nil {
		s.byPeer = map[key.Public]uint32{}
	}
	cells := s.growTo(number)
	if old, ok := s.byPeer[peer]; ok {
		cells[old].Store(nil)
	}
	if before := cells[number].Load(); before != nil {
		delete(s.byPeer, before.peer)
	}
	s.byPeer[peer] = number
	cells[number].Store(&channel{peer: peer})
	return true
}

// growTo returns a table that has a cell for number. Nothing else stores into
// cells while mu is held.
func (s *session) growTo(number uint32) []atomic.Pointer[channel] {
	var old []atomic.Pointer[channel]
	if p := s.channels.Load(); p != nil {
		old = *p
	}
	if int(number) < len(old) {
		return old
	}
	size := 4
	for size <= int(number) {
		size *= 2
	}
	grown := make([]atomic.Pointer[channel], size)
	for i := range old {
		grown[i].Store(old[i].Load())
	}
	s.channels.Store(&grown)
	return grown
}

// numberFor returns the session's channel for a peer, 0 when it has none.
func (s *session) numberFor(peer key.Public) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPeer[peer]
}

// forgetRoute makes the session look up anew where a peer is.
func (s *session) forgetRoute(peer key.Public) {
	if c := s.channel(s.numberFor(peer)); c != nil {
		c.route.Store(nil)
	}
}
