package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"nexd/internal/logkey"
)

// Socket is a UDP socket of a relay.
type Socket struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	wide    bool // an IPv6 socket: addresses are given to it in that form
	group   *int // sockets with the same one are bound to the same address
	segment atomic.Bool
}

// socketBuffer is what is asked for each socket, in bytes, both ways.
const socketBuffer = 8 << 20

// Listen binds UDP sockets to an address, for example ":3478": as many as
// count where the system spreads clients over them (Linux), else one. A host
// with several addresses should name one: answers leave from the address
// the system chooses. The caller gives them to [Server.Run], which closes them.
func Listen(ctx context.Context, address string, count int, log *slog.Logger) ([]*Socket, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if count = max(count, 1); !canShare {
		count = 1
	}
	lc := net.ListenConfig{}
	if count > 1 {
		lc.Control = sharePort
	}
	group := new(int)
	var out []*Socket
	for range count {
		pc, err := lc.ListenPacket(ctx, "udp", address)
		if err == nil {
			var s *Socket
			if s, err = newSocket(pc.(*net.UDPConn), group, log); err == nil {
				address = pc.LocalAddr().String() // the others take the port the first was given
				out = append(out, s)
				continue
			}
			pc.Close()
		}
		for _, s := range out {
			s.conn.Close()
		}
		return nil, fmt.Errorf("relay: listen on udp %s: %w", address, err)
	}
	return out, nil
}

// NewSocket takes a socket the caller made; [Server.Run] will close it.
func NewSocket(conn *net.UDPConn, log *slog.Logger) (*Socket, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newSocket(conn, new(int), log)
}

func newSocket(conn *net.UDPConn, group *int, log *slog.Logger) (*Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	local, _ := conn.LocalAddr().(*net.UDPAddr)
	s := &Socket{conn: conn, raw: raw, group: group, wide: local != nil && local.IP.To4() == nil}
	if got := s.tune(); got > 0 && got < socketBuffer/8 {
		log.Info("small udp buffers: raise net.core.rmem_max and wmem_max to 8388608 for a busy relay", logkey.Count, got)
	}
	return s, nil
}

// LocalAddr is where the socket is bound.
func (s *Socket) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// WriteTo sends one datagram, for what [ServerConfig].Other answers. It may be called by any goroutine.
func (s *Socket) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	return s.conn.WriteToUDPAddrPort(b, to)
}

// interrupt makes a blocked read return.
func (s *Socket) interrupt() { s.conn.SetReadDeadline(time.Unix(1, 0)) }

func (s *Socket) canSegment() bool { return s.segment.Load() }

// serveUDP reads until ctx ends. Errors of the network are survived.
func (s *Server) serveUDP(ctx context.Context, socket *Socket) error {
	f := newForwarder(s, socket)
	in := newInbox(socket)
	pause := time.Duration(0)
	for {
		n, err := in.read()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			if pause == 0 {
				s.log.Warn("relay cannot read, tries again", logkey.Err, err)
			}
			pause = min(max(2*pause, time.Millisecond), time.Second)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		f.begin()
		for i := range n {
			packet, size, from := in.packet(i)
			f.datagram(socket, packet, size, from)
		}
		f.flush()
	}
}

// datagram handles what the kernel gave as one: several of the same size when
// it joined them (UDP_GRO).
func (f *forwarder) datagram(socket *Socket, packet []byte, size int, from netip.AddrPort) {
	if !from.IsValid() || from.Port() == 0 {
		f.tally.drop(DropMalformed, 1)
		return
	}
	if size <= 0 || size > len(packet) {
		size = len(packet)
	}
	s := f.server.table.at(from)
	for len(packet) > 0 {
		n := min(size, len(packet))
		// The capacity goes on: neighbours are sent as one piece again.
		one := packet[:n]
		packet = packet[n:]
		if one[0] >= firstFrame {
			f.fromUDP(s, one, socket, from)
		} else if f.server.cfg.Other != nil {
			f.server.cfg.Other(socket, one[:n:n], from)
		} else {
			f.tally.drop(DropForeign, 1)
		}
	}
}
