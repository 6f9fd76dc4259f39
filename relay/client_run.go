package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"nexd/internal/logkey"
)

// When what is tried.
const (
	tlsHeadStart = 800 * time.Millisecond // UDP has so long before TLS is tried beside it
	longPause    = 10 * time.Second       // after a refusal
	drainTLS     = 2 * time.Second        // a connection that UDP replaced may still bring packets
)

var (
	reconnect = [...]time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second}
	// udpAgain is when UDP is tried again while TLS serves.
	udpAgain = [...]time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, 60 * time.Second}
)

// after returns the n-th pause of a row, the last for all later ones, give or take a fifth.
func after(row []time.Duration, n int) time.Duration {
	d := row[min(n, len(row)-1)]
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d))
}

// runner is the state of Run's goroutine.
type runner struct {
	c          *Client
	epoch      uint64
	generation uint64
	wg         sync.WaitGroup

	udp struct {
		machine
		addr      netip.AddrPort // of the session; of the first challenge
		next      time.Time      // try not before
		fails     int
		started   time.Time
		resolving bool
	}
	tls struct {
		machine
		conn    *clientConn
		next    time.Time
		fails   int
		dialing bool
	}
	resolved chan []netip.AddrPort
	old      *clientConn // replaced by UDP
	oldEnds  time.Time
	err      error // why not up
}

// Run keeps a session with the relay until ctx ends, then says goodbye and
// returns nil. UDP is tried first, WebSocket beside it after 0.8 s, and UDP
// again later while WebSocket serves. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	if c.ran.Swap(true) {
		return errors.New("relay client: Run was called before")
	}
	r := &runner{c: c, epoch: uint64(max(time.Now().UnixNano(), 0)), resolved: make(chan []netip.AddrPort, 1), err: ErrSilent}
	for _, m := range []*machine{&r.udp.machine, &r.tls.machine} {
		m.secret, m.tag, m.epoch = c.secret, c.tag, r.nextEpoch
	}
	now := time.Now()
	r.tls.next = now
	if r.hasUDP() {
		r.tls.next = now.Add(tlsHeadStart)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		r.stop()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := r.step(ctx, time.Now())
		timer.Reset(time.Until(next))
		var broken chan error
		if r.tls.conn != nil {
			broken = r.tls.conn.broken
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.kick:
			if c.hurry.Swap(false) {
				r.hurry(time.Now())
			}
		case f := <-c.inbox:
			r.frame(time.Now(), f)
		case addrs := <-r.resolved:
			r.startUDP(time.Now(), addrs)
		case d := <-c.dialed:
			r.dialed(time.Now(), d)
		case <-broken:
			r.lostTLS(time.Now(), r.tls.conn.err)
		}
	}
}

// hurry tries at once what waits, and asks the relay whether it lives.
func (r *runner) hurry(now time.Time) {
	r.udp.next, r.udp.fails, r.tls.fails = now, 0, 0
	r.tls.next = earlier(r.tls.next, now.Add(tlsHeadStart))
	for _, m := range []*machine{&r.udp.machine, &r.tls.machine} {
		if m.up && !m.waiting {
			m.pinged, m.lastTry = time.Time{}, time.Time{}
		}
	}
}

func (r *runner) hasUDP() bool { return len(r.c.cfg.UDP) > 0 && r.c.cfg.WriteUDP != nil }

// nextEpoch returns an epoch above all before, and above the one given.
func (r *runner) nextEpoch(above uint64) uint64 {
	r.epoch = max(r.epoch, above, uint64(max(time.Now().UnixNano(), 0))) + 1
	return r.epoch
}

// step does what is due and returns when something will be.
func (r *runner) step(ctx context.Context, now time.Time) time.Time {
	next := now.Add(time.Minute)
	credential := r.c.cfg.Credential()
	sent := time.Unix(0, r.c.sent.Load())
	if len(credential) != credentialSize && !r.udp.active() && !r.tls.active() {
		r.down(ErrNoCredential)
		return now.Add(longPause)
	}
	if r.udp.active() {
		out, at := r.udp.tick(now, time.Unix(0, r.c.heardUDP.Load()), sent, credential)
		r.flushUDP()
		r.outcomeUDP(now, out)
		next = earlier(next, at)
	}
	if !r.udp.active() && r.hasUDP() && !r.udp.resolving {
		if !now.Before(r.udp.next) {
			r.resolve(ctx)
		} else {
			next = earlier(next, r.udp.next)
		}
	}
	if r.tls.active() {
		out, at := r.tls.tick(now, time.Unix(0, r.tls.conn.heard.Load()), sent, credential)
		r.flushTLS()
		r.outcomeTLS(now, out)
		next = earlier(next, at)
	}
	if r.c.cfg.URL != "" && !r.udp.up && r.tls.conn == nil && !r.tls.dialing {
		if !now.Before(r.tls.next) {
			r.tls.dialing = true
			r.wg.Go(func() { r.c.dial(ctx) })
		} else {
			next = earlier(next, r.tls.next)
		}
	}
	if r.old != nil {
		if !now.Before(r.oldEnds) {
			r.old.close()
			r.old = nil
		} else {
			next = earlier(next, r.oldEnds)
		}
	}
	switch {
	case r.udp.up:
		r.c.rtt.Store(int64(r.udp.rtt))
	case r.tls.up:
		r.c.rtt.Store(int64(r.tls.rtt))
	}
	return next
}

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

func (r *runner) flushTLS() {
	if r.tls.conn != nil {
		for _, f := range r.tls.out {
			r.tls.conn.queue.push(r.c.cfg.Relay, copyFrame(f))
		}
	}
	r.tls.out = nil
}

// frame handles what the data path does not.
func (r *runner) frame(now time.Time, f clientFrame) {
	frame := f.frame[:f.n]
	if FrameType(frame[0]) == FrameNotice {
		if what, peer, err := parseNotice(frame); err == nil && r.c.cfg.OnPresence != nil {
			r.c.cfg.OnPresence(peer, what)
		}
		if f.ws == nil {
			r.c.heardUDP.Store(now.UnixNano())
		}
		return
	}
	if f.ws != nil {
		// While UDP is about to be admitted, or is, TLS must not take its place.
		ahead := r.udp.up || r.udp.proof == proofProving
		if f.ws == r.tls.conn && (r.tls.up || !ahead) {
			out := r.tls.handle(now, frame)
			r.flushTLS()
			r.outcomeTLS(now, out)
		}
		return
	}
	from := netip.AddrPortFrom(f.from.Addr().Unmap(), f.from.Port())
	if FrameType(frame[0]) == FrameChallenge && !r.udp.addr.IsValid() {
		if c, err := parseChallenge(frame); err == nil && c.Echo == r.udp.nonce {
			r.udp.addr = from
		}
	}
	if from != r.udp.addr {
		return
	}
	if FrameType(frame[0]) == FramePong {
		r.c.heardUDP.Store(now.UnixNano())
	}
	out := r.udp.handle(now, frame)
	r.flushUDP()
	r.outcomeUDP(now, out)
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
			r.udp.next, r.tls.next = now, now.Add(tlsHeadStart)
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

// byePause is how long to stay away after a relay's goodbye.
func byePause(why Farewell) time.Duration {
	switch why {
	case ByeReplaced, ByeDenied:
		return after([]time.Duration{longPause}, 0) // another device with our key, or not welcome
	}
	return after(reconnect[:], 0)
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

// dialed takes a connection into use.
func (r *runner) dialed(now time.Time, d dialResult) {
	r.tls.dialing = false
	credential := r.c.cfg.Credential()
	switch {
	case d.err != nil:
		r.lostTLS(now, d.err)
	case r.udp.up || len(credential) != credentialSize:
		d.conn.close()
	default:
		r.tls.conn = d.conn
		r.tls.start(now, credential)
		r.flushTLS()
	}
}

func (r *runner) outcomeTLS(now time.Time, o outcome) {
	switch o.event {
	case evNone:
	case evUp, evResumed:
		r.tls.fails = 0
		if o.event == evUp {
			r.generation++
		}
		if r.udp.up {
			return // it came up meanwhile, and is better
		}
		r.announce(now, &upLink{generation: r.generation, tag: r.tls.session, channels: r.tls.channels, ws: r.tls.conn})
	case evLost:
		r.lostTLS(now, ErrSilent)
	case evRefused:
		if r.tls.up {
			r.c.log.Warn("relay does not renew", logkey.Reason, o.refusal.String())
			return
		}
		r.lostTLS(now, &RefusedError{o.refusal})
		r.tls.next = now.Add(longPause)
	case evBye:
		if o.bye == ByeDraining {
			r.update(func(s *Status) { s.Draining = true })
			return
		}
		r.lostTLS(now, &ByeError{o.bye})
		r.tls.next = now.Add(byePause(o.bye))
	}
}

// lostTLS ends an attempt or a session.
func (r *runner) lostTLS(now time.Time, why error) {
	was := r.tls.up
	r.tls.close()
	if r.tls.conn != nil {
		r.tls.conn.close()
		r.tls.conn = nil
	}
	r.tls.next = now.Add(after(reconnect[:], r.tls.fails))
	r.tls.fails++
	if was && !r.udp.active() {
		r.udp.next, r.udp.fails = now, 0 // what closed it may have changed the network
	}
	if u := r.c.up.Load(); u == nil || u.ws != nil {
		r.down(why)
	}
}

// retireTLS lets a connection UDP has replaced bring what is on its way.
func (r *runner) retireTLS(now time.Time) {
	r.tls.close()
	r.tls.fails = 0
	if r.tls.conn == nil {
		return
	}
	if r.old != nil {
		r.old.close()
	}
	r.old, r.oldEnds = r.tls.conn, now.Add(drainTLS)
	r.tls.conn = nil
}

// announce makes a link the one packets take.
func (r *runner) announce(now time.Time, u *upLink) {
	before := r.c.up.Swap(u)
	m := &r.udp.machine
	kind := UDP
	if u.ws != nil {
		m, kind = &r.tls.machine, TLS
	}
	r.err = nil
	if before != nil && before.generation == u.generation {
		r.update(func(s *Status) { s.RTT = m.rtt })
		return
	}
	r.c.log.Info("relay connected", logkey.Path, kind.String(), logkey.Addr, u.addr, logkey.RTT, m.rtt)
	r.update(func(s *Status) {
		*s = Status{Transport: kind, Addr: u.addr, RTT: m.rtt, Since: now}
	})
}

// down says that there is no way to the relay, once for each reason.
func (r *runner) down(why error) {
	was := r.c.up.Swap(nil)
	if was == nil && r.err != nil && r.err.Error() == why.Error() {
		return
	}
	r.err = why
	if was != nil {
		r.c.log.Info("relay lost", logkey.Reason, why)
	} else {
		r.c.log.Debug("relay not reached", logkey.Reason, why)
	}
	r.update(func(s *Status) {
		since := s.Since
		if was != nil {
			since = time.Now()
		}
		*s = Status{Since: since, Err: why}
	})
}

func (r *runner) update(change func(*Status)) {
	r.c.mu.Lock()
	change(&r.c.status)
	now := r.c.status
	r.c.mu.Unlock()
	if r.c.cfg.OnStatus != nil {
		r.c.cfg.OnStatus(now)
	}
}

// stop says goodbye and waits for what Run started.
func (r *runner) stop() {
	r.c.up.Store(nil)
	if r.udp.up {
		r.udp.out = [][]byte{r.udp.leave()}
		r.flushUDP()
	}
	if r.tls.conn != nil {
		r.tls.conn.close() // the relay sees it
	}
	if r.old != nil {
		r.old.close()
	}
	r.wg.Wait() // the channels of what it waits for have room
	select {
	case d := <-r.c.dialed:
		if d.conn != nil {
			d.conn.close()
		}
	default:
	}
	r.c.http.CloseIdleConnections()
	r.update(func(s *Status) { *s = Status{Since: time.Now(), Err: net.ErrClosed} })
}
