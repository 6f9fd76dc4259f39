package stunserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"nexd/internal/logkey"
	"nexd/internal/stunwire"
)

// The budgets of answers.
const (
	sourceRate  = 20 // answers per second to one source prefix
	sourceBurst = 50
	totalRate   = 5000 // answers per second in all
	totalBurst  = 5000
)

// Server answers binding requests on one socket.
type Server struct {
	pc    net.PacketConn
	log   *slog.Logger
	sends budget
	seen  sources
	stats struct{ requests, answers, errors, junk, limited, readErrors, writeErrors atomic.Uint64 }
}

// Stats counts what a server did since it was made.
type Stats struct {
	Requests    uint64 // binding requests read
	Answers     uint64 // success responses sent
	Errors      uint64 // error responses sent
	Junk        uint64 // packets dropped: not a binding request
	Limited     uint64 // requests dropped: over a budget
	ReadErrors  uint64
	WriteErrors uint64
}

// New returns a server on pc: an IPv4, IPv6 or dual-stack UDP socket. Run closes
// it. A nil log is silent.
func New(pc net.PacketConn, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{pc: pc, log: log, sends: budget{rate: totalRate, burst: totalBurst}, seen: newSources()}
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	return Stats{
		Requests: s.stats.requests.Load(), Answers: s.stats.answers.Load(), Errors: s.stats.errors.Load(),
		Junk: s.stats.junk.Load(), Limited: s.stats.limited.Load(),
		ReadErrors: s.stats.readErrors.Load(), WriteErrors: s.stats.writeErrors.Load(),
	}
}

// Run answers until ctx ends, then returns nil; it closes the socket. An error
// of the socket is survived with a pause; only a socket closed by somebody else
// ends Run with an error.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.pc.Close() })
	defer s.pc.Close()
	defer stop()
	// One byte more than the longest message: a longer packet shows itself.
	in, out := make([]byte, stunwire.MaxMessage+1), make([]byte, 0, 128)
	pause := time.Duration(0)
	for {
		n, from, err := s.pc.ReadFrom(in)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("stun server: %w", err)
		case err != nil:
			// Such as the ICMP error of an answer sent before: the next read may do.
			if s.stats.readErrors.Add(1); pause == 0 {
				s.log.Warn("stun server cannot read, tries again", logkey.Err, err)
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
		if out = s.answer(out[:0], in[:n], addrPort(from), time.Now()); len(out) == 0 {
			continue
		}
		if _, err := s.pc.WriteTo(out, from); err != nil {
			s.stats.writeErrors.Add(1)
		}
	}
}

// answer appends the answer to packet to b, or nothing.
func (s *Server) answer(b, packet []byte, from netip.AddrPort, now time.Time) []byte {
	m, err := stunwire.Parse(packet)
	if err != nil || m.Class != stunwire.Request || !from.IsValid() || from.Port() == 0 {
		s.stats.junk.Add(1)
		return b
	}
	s.stats.requests.Add(1)
	// The source first: a flooder over its own budget does not use up everybody's.
	if !s.seen.take(from.Addr(), now) || !s.sends.take(now) {
		s.stats.limited.Add(1)
		return b
	}
	if len(m.Unknown) > 0 {
		s.stats.errors.Add(1)
		return stunwire.AppendError(b, m.ID, stunwire.CodeUnknownAttribute, m.Unknown, m.Fingerprint)
	}
	s.stats.answers.Add(1)
	return stunwire.AppendSuccess(b, m.ID, from, m.Fingerprint)
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
