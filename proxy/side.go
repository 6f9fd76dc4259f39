package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"nexd/rules"
)

// side is one end of a rule: where it listens or where it dials.
type side interface {
	// points returns the addresses to listen on for a key.
	points(rules.ListenKey) ([]point, error)
	listenStream(netip.AddrPort) (net.Listener, error)
	listenPacket(netip.AddrPort) (packetSocket, error)
	// resolve returns the addresses of a target that is a name, the address of
	// one that is an address, and nothing for a unix socket.
	resolve(context.Context, rules.Target) ([]netip.Addr, error)
	dialStream(context.Context, rules.Target) (net.Conn, error)
	// dialPacket connects a datagram socket. skip is how many of the addresses
	// of a name to pass over, because they did not answer.
	dialPacket(ctx context.Context, t rules.Target, skip int) (net.Conn, error)
}

// point is an address to listen on. One that may lack is left out where the
// host has no such address, as long as another one is there.
type point struct {
	addr    netip.Addr
	mayLack bool
}

// lacks reports whether an error of listen says that the address, or its whole
// family, does not exist here.
func lacks(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) ||
		errors.Is(err, syscall.EPROTONOSUPPORT)
}

// attemptDelay is the head start of an address over the next one (RFC 8305 section 5).
const attemptDelay = 250 * time.Millisecond

// dialFirst dials addresses in order, each a little after the one before or as
// soon as that one failed, and returns the first connection made. The first
// attempt mostly succeeds before another's time has come, so it needs no goroutine.
func dialFirst(ctx context.Context, addrs []netip.AddrPort, dial func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, error) {
	if len(addrs) == 1 {
		return dial(ctx, addrs[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	others := make(chan result, 1)
	later := time.AfterFunc(attemptDelay, func() {
		c, err := dialFirst(ctx, addrs[1:], dial)
		others <- result{c, err}
		if err == nil {
			cancel() // the first one
		}
	})
	conn, err := dial(ctx, addrs[0])
	if later.Stop() {
		if err == nil {
			return conn, nil
		}
		if conn, otherErr := dialFirst(ctx, addrs[1:], dial); otherErr == nil {
			return conn, nil
		}
		return nil, err
	}
	if err == nil {
		cancel()
		if late := <-others; late.conn != nil {
			_ = late.conn.Close()
		}
		return conn, nil
	}
	select {
	case r := <-others: // it was there first: its error counts as well as its success
		return r.conn, r.err
	default:
	}
	if r := <-others; r.err == nil {
		return r.conn, nil
	}
	return nil, err
}

// interleave orders addresses by family in turn, IPv6 first (RFC 8305 section 4).
func interleave(addrs []netip.Addr) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for len(v4)+len(v6) > 0 {
		if len(v6) > 0 {
			out, v6 = append(out, v6[0]), v6[1:]
		}
		if len(v4) > 0 {
			out, v4 = append(out, v4[0]), v4[1:]
		}
	}
	return out
}

func withPort(addrs []netip.Addr, port uint16) []netip.AddrPort {
	out := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		out[i] = netip.AddrPortFrom(a, port)
	}
	return out
}
