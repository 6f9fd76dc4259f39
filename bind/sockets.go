package bind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"
)

// portTries bounds the search for a port that is free for both families.
const portTries = 100

var _ conn.Bind = (*sockets)(nil)

// sockets is the [conn.Bind] below a [Bind]: a UDP socket for IPv4 and one for
// IPv6 on the same port, either of which may be missing. Its endpoints are
// *conn.StdNetEndpoint without a source: the routing table chooses it.
//
// It takes the place of conn.StdNetBind, whose Send loses the last 12 bytes of
// an IPv6 address once it has sent by IPv4.
type sockets struct {
	listen  func(network string, port uint16) (*net.UDPConn, error)
	carrier func(c *net.UDPConn, v6 bool, log *slog.Logger) carrier
	log     *slog.Logger // what the system refuses

	life sync.Mutex // serialises Open, Close and SetMark
	now  atomic.Pointer[pair]
}

// pair is what is open.
type pair struct{ v4, v6 *socket } // nil: the host has no such addresses

// socket is that of one family.
type socket struct {
	conn   *net.UDPConn
	via    carrier
	closed atomic.Bool
}

// carrier moves packets through a socket. Its methods wait; when the socket
// is closed they return an error that is net.ErrClosed.
type carrier interface {
	// receive is a conn.ReceiveFunc, called by one goroutine.
	receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error)
	// send stops at the first error, which is a [*stopped] when it is about some
	// of the packets. It keeps nothing of bufs and does not write to them.
	send(bufs [][]byte, to netip.AddrPort) error
}

// stopped is the error of a send that the system ended in the midst of its
// packets: those before at have left, n from there on were refused, and those
// behind them were not tried.
type stopped struct {
	at, n int
	err   error
}

func (s *stopped) Error() string { return s.err.Error() }

func (s *stopped) Unwrap() error { return s.err }

func newSockets() conn.Bind { return socketsFor(slog.New(slog.DiscardHandler)) }

func socketsFor(log *slog.Logger) *sockets {
	return &sockets{listen: listenUDP, carrier: newCarrier, log: log}
}

// listenUDP binds to all addresses of a family; an IPv6 socket is for IPv6
// only.
func listenUDP(network string, port uint16) (*net.UDPConn, error) {
	lc := net.ListenConfig{}
	c, err := lc.ListenPacket(context.Background(), network, ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// Open implements [conn.Bind]. The port it returns is the real one, whichever
// family it is of. Without either family the error is EAFNOSUPPORT.
func (s *sockets) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	s.life.Lock()
	defer s.life.Unlock()
	if s.now.Load() != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	var v4, v6 *net.UDPConn
	var actual uint16
	var err error
	for range portTries {
		v4, v6, actual, err = s.listenBoth(port)
		if port != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, 0, err
	}
	p := new(pair)
	var fns []conn.ReceiveFunc
	if v4 != nil {
		p.v4 = &socket{conn: v4, via: s.carrier(v4, false, s.log)}
		fns = append(fns, p.v4.receive)
	}
	if v6 != nil {
		p.v6 = &socket{conn: v6, via: s.carrier(v6, true, s.log)}
		fns = append(fns, p.v6.receive)
	}
	s.now.Store(p)
	return fns, actual, nil
}

// listenBoth takes one port for both families. A family the host does not have
// is nil; not both are.
func (s *sockets) listenBoth(port uint16) (v4, v6 *net.UDPConn, actual uint16, err error) {
	v4, err = s.listen("udp4", port)
	if err != nil && !noFamily(err) {
		return nil, nil, 0, err
	}
	if v4 != nil {
		port = portOf(v4)
	}
	v6, err6 := s.listen("udp6", port)
	switch {
	case err6 == nil:
		return v4, v6, portOf(v6), nil
	case !noFamily(err6):
		if v4 != nil {
			v4.Close()
		}
		return nil, nil, 0, err6
	case v4 == nil:
		return nil, nil, 0, err
	}
	return v4, nil, port, nil
}

// noFamily reports that a host has no addresses of a family: the system has it
// not at all, or it is switched off.
func noFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EPROTONOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

func portOf(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// Close implements [conn.Bind]: blocked calls return net.ErrClosed.
func (s *sockets) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	p := s.now.Swap(nil)
	if p == nil {
		return nil
	}
	return errors.Join(p.v4.close(), p.v6.close())
}

// SetMark implements [conn.Bind] for what is open.
func (s *sockets) SetMark(mark uint32) error {
	s.life.Lock()
	defer s.life.Unlock()
	p := s.now.Load()
	if p == nil {
		return nil
	}
	for _, one := range []*socket{p.v4, p.v6} {
		if one == nil {
			continue
		}
		if err := setMark(one.conn, mark); err != nil {
			return fmt.Errorf("mark udp socket: %w", err)
		}
	}
	return nil
}

// Send implements [conn.Bind]. The error is EAFNOSUPPORT where the host has no
// addresses of the endpoint's family, and net.ErrClosed while nothing is open.
// A conn.ErrUDPGSODisabled tells once that the packets had to go one by one.
func (s *sockets) Send(bufs [][]byte, ep conn.Endpoint) error {
	std, ok := ep.(*conn.StdNetEndpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	p := s.now.Load()
	if p == nil {
		return net.ErrClosed
	}
	to, one := unmap(std.AddrPort), p.v6
	if to.Addr().Is4() {
		one = p.v4
	}
	if one == nil || !to.IsValid() {
		return syscall.EAFNOSUPPORT
	}
	return closedAs(one.via.send(bufs, to))
}

// ParseEndpoint implements [conn.Bind]: it takes IP:PORT.
func (s *sockets) ParseEndpoint(text string) (conn.Endpoint, error) {
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, fmt.Errorf("parse endpoint: %w", err)
	}
	return &conn.StdNetEndpoint{AddrPort: unmap(addr)}, nil
}

// BatchSize implements [conn.Bind].
func (s *sockets) BatchSize() int { return batchSize }

func (s *socket) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if s.closed.Load() { // what a carrier still holds is for nobody
		return 0, net.ErrClosed
	}
	n, err := s.via.receive(bufs, sizes, eps)
	return n, closedAs(err)
}

// close closes the socket; that of a nil one does nothing.
func (s *socket) close() error {
	if s == nil {
		return nil
	}
	s.closed.Store(true)
	return s.conn.Close()
}

// closedAs takes the wrapping off net.ErrClosed.
func closedAs(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return net.ErrClosed
	}
	return err
}
