package netstack

import (
	"net/netip"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	reserved "gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// firstDialledPort is the lowest local port of what is dialled. As on Linux, what
// is below is free to listen at: with gVisor's own range, from 16000, a rule at
// port 20000 that is added at run time could find it taken by a connection.
const firstDialledPort = 32768

// listeners are those of TCP. gVisor's own cost some 5 KB each, and most rules are
// not used by anybody: so a port is only written down here until the first SYN to
// it, which gVisor hands to knock, as it does with every packet that nobody takes.
type listeners struct {
	mu     sync.Mutex // guards the field below, and listener.next and held
	byPort map[uint16]*listener
}

// enter lists l with its address, at a free port if it has none.
func (s *Stack) enter(l *listener) error {
	t := &s.listeners
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := s.checkOpen(); err != nil {
		return err
	}
	if l.at.Port() != 0 && t.taken(l.at) {
		return syscall.EADDRINUSE
	}
	// Connections that are dialled get a local port in this range, which then
	// could not be listened at any more.
	if first, last := s.gvisor.PortRange(); l.at.Port() == 0 || l.at.Port() >= first && l.at.Port() <= last {
		port, err := s.gvisor.ReservePort(s.gvisor.SecureRNG(), reservation(l.at), func(port uint16) (bool, tcpip.Error) {
			return !t.taken(netip.AddrPortFrom(l.at.Addr(), port)), nil
		})
		if err != nil {
			return errno(err)
		}
		l.at = netip.AddrPortFrom(l.at.Addr(), port)
		l.held = true
	}
	l.next = t.byPort[l.at.Port()]
	t.byPort[l.at.Port()] = l
	return nil
}

// reservation is what gVisor's listeners reserve, too: the two do not exclude
// each other.
func reservation(at netip.AddrPort) reserved.Reservation {
	full := bindFull(at)
	r := reserved.Reservation{
		Networks:  []tcpip.NetworkProtocolNumber{protocolOf(at.Addr())},
		Transport: tcp.ProtocolNumber,
		Addr:      full.Addr,
		Port:      full.Port,
		Flags:     reserved.Flags{TupleOnly: true},
	}
	if at.Addr() == netip.IPv6Unspecified() {
		r.Networks = append(r.Networks, header.IPv4ProtocolNumber)
	}
	return r
}

// leave takes l from the list, if it is there.
func (s *Stack) leave(l *listener) {
	t := &s.listeners
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.held {
		l.held = false
		s.gvisor.ReleasePort(reservation(l.at))
	}
	port := l.at.Port()
	if t.byPort[port] == l {
		if t.byPort[port] = l.next; l.next == nil {
			delete(t.byPort, port)
		}
		return
	}
	for at := t.byPort[port]; at != nil; at = at.next {
		if at.next == l {
			at.next = l.next
			return
		}
	}
}

// taken reports whether somebody listens at an address already, or at one that
// includes it or is included. mu is held.
func (t *listeners) taken(at netip.AddrPort) bool {
	for l := t.byPort[at.Port()]; l != nil; l = l.next {
		if covers(l.at.Addr(), at.Addr()) || covers(at.Addr(), l.at.Addr()) {
			return true
		}
	}
	return false
}

// covers reports whether who listens at an address gets what is sent to another.
func covers(at, addr netip.Addr) bool {
	return at == addr || at == netip.IPv6Unspecified() || at == netip.IPv4Unspecified() && addr.Is4()
}

// find returns who listens at an address, nil if nobody does.
func (t *listeners) find(at netip.AddrPort) *listener {
	t.mu.Lock()
	defer t.mu.Unlock()
	for l := t.byPort[at.Port()]; l != nil; l = l.next {
		if covers(l.at.Addr(), at.Addr()) {
			return l
		}
	}
	return nil
}

// shut ends all of them; the stack is closed.
func (t *listeners) shut() {
	t.mu.Lock()
	var all []*listener
	for _, l := range t.byPort {
		for ; l != nil; l = l.next {
			all = append(all, l)
		}
	}
	t.mu.Unlock()
	for _, l := range all {
		l.Close()
	}
}

// queuer is how gVisor's TCP takes packets for an endpoint.
type queuer interface {
	QueuePacket(stack.TransportEndpoint, stack.TransportEndpointID, *stack.PacketBuffer)
}

// knock is called with packets of TCP that no connection and no listener of
// gVisor takes. It reports whether that was the first SYN to a port where
// somebody listens; everything else is answered with a reset.
func (s *Stack) knock(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
	h := header.TCP(packet.TransportHeader().Slice())
	if len(h) < header.TCPMinimumSize || h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) != header.TCPFlagSyn {
		return false
	}
	l := s.listeners.find(netip.AddrPortFrom(fromAddress(id.LocalAddress), id.LocalPort))
	if l == nil {
		return false
	}
	endpoint, ok := l.open().(stack.TransportEndpoint)
	if !ok {
		return false
	}
	s.gvisor.TransportProtocolInstance(tcp.ProtocolNumber).(queuer).QueuePacket(endpoint, id, packet)
	return true
}
