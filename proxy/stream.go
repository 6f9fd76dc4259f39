package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"nexd/internal/duplex"
	"nexd/internal/logkey"
	"nexd/rules"
)

// admit finds a rule with a place for the connection and serves it, or resets it.
func (g *group) admit(c net.Conn) {
	src := g.source(addrPortOf(c.RemoteAddr()).Addr())
	order := g.candidates(src.allowed)
	why := refusedAllow
	for i, r := range order {
		if why = r.acquire(src.addr); why == "" {
			g.e.working.Add(1)
			g.e.mover.Go(func() { g.serve(c, src, order[i:]) })
			return
		}
	}
	g.refuse(c, src, why, order)
}

// refuse resets a connection, and counts it at the first rule that could have taken it.
func (g *group) refuse(c net.Conn, src source, why refusal, order []*rule) {
	if len(order) == 0 {
		order = *g.rules.Load()
	}
	order[0].refused(why)
	duplex.Abort(c)
	if g.e.refusals.Allow() {
		g.e.log.Debug("connection refused", logkey.Rule, order[0].id.text,
			logkey.Addr, src.addr, logkey.Peer, src.name, logkey.Reason, string(why))
	}
}

// serve dials one destination after the other and forwards to the first that
// answers. The place in order[0] is taken; those of the others are not. What it
// begins counts as working until the connection has ended.
func (g *group) serve(c net.Conn, src source, order []*rule) {
	forwards := false
	defer func() {
		if !forwards {
			g.e.working.Done()
		}
	}()
	for i, r := range order {
		if i > 0 && r.acquire(src.addr) != "" {
			continue
		}
		dest, err := r.dial(func(ctx context.Context) (net.Conn, error) {
			return g.back.dialStream(ctx, r.Target)
		})
		if err == nil {
			r.total.Add(1)
			forwards = true
			r.forward(c, dest, src.addr)
			return
		}
		r.release(src.addr)
		if life, _ := r.life(); life.Err() != nil {
			duplex.Abort(c)
			return
		}
	}
	g.refuse(c, src, refusedDial, order)
}

// dial makes one attempt at the rule's destination within its bounds and
// records how it went.
func (r *rule) dial(dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	life, dialling := r.life()
	ctx, cancel := context.WithTimeoutCause(life, r.dialTimeout, noAnswer{r})
	defer cancel()
	deadline, _ := ctx.Deadline()
	select {
	case dialling <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c, err := dial(ctx)
	<-dialling
	switch {
	case err == nil && r.Protocol == rules.TCP:
		r.destinationWorks()
	case err != nil && life.Err() == nil:
		if !time.Now().Before(deadline) { // the socket may know before the context does
			err = noAnswer{r}
		}
		r.destinationFailed(err)
	}
	return c, err
}

// noAnswer is the error when the time to dial is over.
type noAnswer struct{ *rule }

func (e noAnswer) Error() string {
	return fmt.Sprintf("dial %s: no answer within %s", e.Target, e.dialTimeout)
}

// forward has bytes moved between the client and the destination until they are
// done, and gives the client's place back then. It returns soon.
func (r *rule) forward(client, dest net.Conn, from netip.Addr) {
	setKeepAlive(client)
	setKeepAlive(dest)
	if err := r.introduce(client, dest); err != nil {
		r.stats.resets.Add(1)
		duplex.Abort(client)
		duplex.Abort(dest)
		r.forwarded(from)
		return
	}
	life, _ := r.life()
	r.e.mover.Move(life, client, dest, duplex.Options{
		IdleTimeout: r.idleTimeout, AtoB: &r.in, BtoA: &r.out,
	}, func(res duplex.Result) {
		switch res.End {
		case duplex.Reset:
			r.stats.resets.Add(1)
		case duplex.Idle:
			r.stats.idleEnds.Add(1)
		case duplex.Cut:
			r.stats.cut.Add(1)
		case duplex.Finished:
		}
		r.forwarded(from)
	})
}

// forwarded ends the count of a connection.
func (r *rule) forwarded(from netip.Addr) {
	r.release(from)
	r.e.working.Done()
}

// setKeepAlive makes sure that a peer that vanished is noticed. The host's TCP
// sockets have been made so.
func setKeepAlive(c net.Conn) {
	switch c := c.(type) {
	case *net.TCPConn, *net.UnixConn:
	case interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}:
		_ = c.SetKeepAliveConfig(keepAlive)
	case interface {
		SetKeepAlive(bool) error
		SetKeepAlivePeriod(time.Duration) error
	}:
		_ = c.SetKeepAlive(true)
		_ = c.SetKeepAlivePeriod(keepAlive.Idle)
	}
}

// introduce sends the PROXY protocol header if the rule asks for one: the true
// source, and the address the client connected to.
func (r *rule) introduce(client, dest net.Conn) error {
	if r.Options.ProxyProtocol == rules.ProxyNone {
		return nil
	}
	version := byte(1)
	if r.Options.ProxyProtocol == rules.ProxyV2 {
		version = 2
	}
	from, to := addrPortOf(client.RemoteAddr()), addrPortOf(client.LocalAddr())
	header := proxyproto.HeaderProxyFromAddrs(version, tcpAddr(from), tcpAddr(to))
	b, err := header.Format()
	if err != nil {
		return fmt.Errorf("proxy protocol header: %w", err)
	}
	if err := dest.SetWriteDeadline(time.Now().Add(r.dialTimeout)); err != nil {
		return fmt.Errorf("proxy protocol header: %w", err)
	}
	if _, err := dest.Write(b); err != nil {
		return fmt.Errorf("proxy protocol header: %w", err)
	}
	return dest.SetWriteDeadline(time.Time{})
}

func tcpAddr(ap netip.AddrPort) *net.TCPAddr { return net.TCPAddrFromAddrPort(ap) }
