package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
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
	resolved  chan []netip.AddrPort
	old       *clientConn // replaced by UDP
	oldEnds   time.Time
	err       error // why not up
	suspected bool  // as told
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
	r.udp.quick, r.tls.quick = quickUDP, quickTLS
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
			conn := r.tls.conn
			r.lastWords()
			if r.tls.conn == conn {
				r.lostTLS(time.Now(), conn.err)
			}
		}
	}
}

// lastWords handles what came before a connection broke: a goodbye says why.
func (r *runner) lastWords() {
	for {
		select {
		case f := <-r.c.inbox:
			r.frame(time.Now(), f)
		default:
			return
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
		r.suspect(r.udp.suspect)
	case r.tls.up:
		r.c.rtt.Store(int64(r.tls.rtt))
		r.suspect(r.tls.suspect)
	}
	return next
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

// byePause is how long to stay away after a relay's goodbye.
func byePause(why Farewell) time.Duration {
	switch why {
	case ByeReplaced, ByeDenied:
		return after([]time.Duration{longPause}, 0) // another device with our key, or not welcome
	}
	return after(reconnect[:], 0)
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
