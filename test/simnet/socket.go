package simnet

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Socket is a further UDP socket of a host, read like a *net.UDPConn.
type Socket struct {
	host  *Host
	port  uint16
	queue chan datagram

	mu     sync.Mutex // guards the fields below
	closed bool
	over   bool          // the deadline has passed
	change chan struct{} // closed when one of them becomes true
}

type datagram struct {
	data []byte
	from netip.AddrPort
}

const (
	socketQueue = 64 // datagrams; more are dropped
	maxSockets  = 4096
	firstSocket = 20000
)

// Open opens a socket on a port of the net's choice. On a host that moves it
// moves along.
func (h *Host) Open() (*Socket, error) {
	n := h.site.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.sockets == nil {
		h.sockets = make(map[uint16]*Socket)
	}
	for port := uint16(firstSocket); port < firstSocket+maxSockets; port++ {
		if h.receives(port) == nil {
			s := &Socket{host: h, port: port, queue: make(chan datagram, socketQueue), change: make(chan struct{})}
			h.sockets[port] = s
			return s, nil
		}
	}
	return nil, syscall.EMFILE
}

// Sockets is how many further sockets the host has open.
func (h *Host) Sockets() int {
	h.site.net.mu.Lock()
	defer h.site.net.mu.Unlock()
	return len(h.sockets)
}

func (s *Socket) push(b []byte, from netip.AddrPort) {
	select {
	case s.queue <- datagram{b, from}:
	default:
	}
}

// WriteToUDPAddrPort sends a datagram; it copies b.
func (s *Socket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	return len(b), s.host.send(b, s.port, to)
}

// ReadFromUDPAddrPort waits for a datagram.
func (s *Socket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		s.mu.Lock()
		closed, over, change := s.closed, s.over, s.change
		s.mu.Unlock()
		switch {
		case closed:
			return 0, netip.AddrPort{}, net.ErrClosed
		case over:
			return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
		}
		select {
		case d := <-s.queue:
			return copy(b, d.data), d.from, nil
		case <-change:
		}
	}
}

// SetReadDeadline ends reads at once for a time in the past; the zero time
// allows them again. It knows no other times.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if over := !t.IsZero(); over != s.over {
		if s.over = over; over {
			close(s.change)
		} else {
			s.change = make(chan struct{})
		}
	}
	return nil
}

// Close closes the socket; reads end.
func (s *Socket) Close() error {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		if s.closed = true; !s.over {
			close(s.change)
		}
	}
	s.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	n := s.host.site.net
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(s.host.sockets, s.port)
	return nil
}
