package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"nexd/internal/logkey"
)

func (r *runner) hasUDP() bool { return len(r.c.cfg.UDP) > 0 && r.c.cfg.WriteUDP != nil }

// resolve looks the relay's UDP addresses up, beside.
func (r *runner) resolve(ctx context.Context) {
	r.udp.resolving = true
	r.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, proofPatience)
		defer cancel()
		r.resolved <- lookUp(ctx, r.c.cfg.UDP)
	})
}

// maxAddrs bounds how many addresses of a relay are tried.
const maxAddrs = 8

func lookUp(ctx context.Context, names []string) (out []netip.AddrPort) {
	for _, name := range names {
		if a, err := netip.ParseAddrPort(name); err == nil {
			out = append(out, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
			continue
		}
		host, port, err := net.SplitHostPort(name)
		if err != nil {
			continue
		}
		n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
		if err != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			continue
		}
		for _, ip := range ips {
			out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
		}
	}
	return out[:min(len(out), maxAddrs)]
}

// startUDP begins an attempt.
func (r *runner) startUDP(now time.Time, addrs []netip.AddrPort) {
	r.udp.resolving = false
	credential := r.c.cfg.Credential()
	if len(addrs) == 0 || len(credential) != credentialSize {
		r.failedUDP(now, fmt.Errorf("relay over udp: no address for %v", r.c.cfg.UDP))
		return
	}
	r.c.udpAddrs.Store(&addrs)
	if r.c.cfg.onAddrs != nil {
		r.c.cfg.onAddrs(addrs)
	}
	r.udp.addr = netip.AddrPort{}
	r.udp.started = now
	r.udp.start(now, credential)
	r.flushUDP()
}

// flushUDP sends what the machine wants sent: to all addresses until one has answered.
func (r *runner) flushUDP() {
	out := r.udp.out
	r.udp.out = nil
	r.c.nonce.Store(binary.BigEndian.Uint64(r.udp.nonce[:]))
	if len(out) == 0 {
		return
	}
	to := []netip.AddrPort{r.udp.addr}
	if !r.udp.addr.IsValid() {
		to = *r.c.udpAddrs.Load()
	}
	for _, a := range to {
		if err := r.c.cfg.WriteUDP(out, a); err != nil {
			r.c.log.Debug("relay over udp", logkey.Addr, a, logkey.Err, err)
		}
	}
}

func (r *runner) outcomeUDP(now time.Time, o outcome) {
	switch o.event {
	case evNone:
	case evUp, evResumed:
		r.c.heardUDP.Store(now.UnixNano())
		r.udp.fails = 0
		if o.event == evUp {
			r.generation++
		}
		r.retireTLS(now)
		r.announce(now, &upLink{generation: r.generation, tag: r.udp.session, channels: r.udp.channels, addr: r.udp.addr})
	case evLost:
		was := r.udp.up
		r.failedUDP(now, ErrSilent)
		if was {
			r.udp.next, r.tls.next = now, now // something is wrong: both, and UDP still wins
			r.udp.fails, r.tls.fails = 0, 0
		}
	case evRefused:
		if r.udp.up {
			r.c.log.Warn("relay does not renew", logkey.Reason, o.refusal.String())
			return
		}
		r.failedUDP(now, &RefusedError{o.refusal})
		r.udp.next = now.Add(longPause)
	case evBye:
		if o.bye == ByeDraining {
			r.update(func(s *Status) { s.Draining = true })
			return
		}
		r.failedUDP(now, &ByeError{o.bye})
		r.udp.next = now.Add(byePause(o.bye))
		r.tls.next = r.udp.next.Add(tlsHeadStart)
	}
}

// failedUDP ends an attempt or a session.
func (r *runner) failedUDP(now time.Time, why error) {
	r.udp.close()
	if r.tls.up {
		r.udp.next = now.Add(after(udpAgain[:], r.udp.fails))
	} else {
		r.udp.next = now.Add(after(reconnect[:], r.udp.fails))
		r.tls.next = earlier(r.tls.next, now.Add(after(reconnect[:], r.tls.fails)))
	}
	r.udp.fails++
	if u := r.c.up.Load(); u == nil || u.ws == nil {
		r.down(why)
	}
}
