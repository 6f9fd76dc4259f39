package discovery

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"nexd/internal/logkey"
	"nexd/internal/stunwire"
)

const (
	stunActive    = 25 * time.Second // ± 2 s, while a peer that is wanted has no path
	stunJitter    = 2 * time.Second
	stunSettled   = 5 * time.Minute // while all have one
	resolveWithin = 5 * time.Second
)

// advanceSTUN asks the servers that are due.
func (a *Agent) advanceSTUN(now time.Time) {
	if next := a.nextSTUN(now); !next.IsZero() && !now.Before(next) {
		a.stun.start(now)
	}
	ask, ended := a.stun.tick(now)
	for _, s := range ask {
		id := stunwire.NewTxID()
		a.stun.asked(id, s, now)
		if err := a.config.Socket.WriteSTUN(stunwire.AppendRequest(make([]byte, 0, 32), id), s); err != nil {
			a.counters.failed.Add(1)
		}
	}
	if len(ask) > 0 {
		a.stunNext = now.Add(stunActive + time.Duration((rand.Float64()*2-1)*float64(stunJitter)))
	}
	if ended {
		a.stunAnswered(false, true)
	}
}

// nextSTUN is when the mapped addresses are looked at again: not at all while
// nobody is in contact.
func (a *Agent) nextSTUN(now time.Time) time.Time {
	if a.stunNext.IsZero() || !a.stun.done || len(a.stun.servers) == 0 {
		return time.Time{}
	}
	active := false
	for p := range a.active {
		switch p.machine.state() {
		case Start, Punch, Searching, Relayed:
			return a.stunNext
		case Direct, Suspect:
			active = active || p.machine.inUse(now)
		case Idle:
		}
	}
	if active {
		return a.stunNext.Add(stunSettled - stunActive)
	}
	return time.Time{}
}

// stunAnswered publishes what the servers say; peers in contact hear of a new
// mapped address at once.
func (a *Agent) stunAnswered(changed, ended bool) {
	info := NATInfo{Kind: a.stun.kind(a.isOwn), Mapped: a.ownMapped(), UDP: len(a.stun.seen) > 0}
	if !info.UDP {
		info.UDP = a.anyDirect()
	}
	old := a.NAT()
	if info.Kind != old.Kind || info.UDP != old.UDP || !slices.Equal(info.Mapped, old.Mapped) {
		a.pubMu.Lock()
		a.nat = info
		a.pubMu.Unlock()
		a.news = true
		if ended {
			a.log.Debug("NAT measured", logkey.State, info.Kind, logkey.Count, len(info.Mapped))
		}
	}
	now := time.Now()
	waited := len(a.deferred) > 0
	if ended {
		a.flushOffers(now)
	}
	if changed && !waited && !slices.Equal(info.Mapped, a.said) {
		a.tellPeers(now)
	}
}

func (a *Agent) anyDirect() bool {
	for p := range a.active {
		if p.machine.direct() {
			return true
		}
	}
	return false
}

// isOwn reports whether addr, as a server sees it, is our own socket: no NAT.
func (a *Agent) isOwn(addr netip.AddrPort) bool { return a.isSelf(addr) }

// tellPeers lets every peer in contact look again.
func (a *Agent) tellPeers(now time.Time) {
	for p := range a.active {
		a.step(p, now, func(m *machine) { m.localChanged(now) })
	}
}

// readInterfaces looks at the machine's addresses and says whether they changed.
func (a *Agent) readInterfaces() bool {
	addrs, err := a.interfaces(a.config.Exclude)
	if err != nil {
		a.log.Debug("interfaces cannot be listed", logkey.Err, err)
		return false
	}
	if slices.Equal(addrs, a.net.addrs) {
		return false
	}
	a.net.addrs = addrs
	return true
}

// networkChanged starts over: addresses, mapped addresses, offers, checks.
func (a *Agent) networkChanged() {
	a.log.Info("own addresses changed", logkey.Count, len(a.net.addrs))
	now := time.Now()
	a.hard.gauge.ended = time.Time{} // that was another NAT
	clear(a.stun.seen)               // how servers saw us there; offers wait for the new answers
	a.stun.start(now)
	a.advanceSTUN(now)
	for _, p := range a.peers {
		if p.session != nil {
			p.machine.forgetSizes(now)
			p.machine.relocate(a.net.near)
		}
	}
	a.tellPeers(now)
}

// serversResolved begins to use the servers of the names.
func (a *Agent) serversResolved(servers []netip.AddrPort) {
	if len(servers) == 0 && len(a.serverNames()) > 0 {
		return // no answer from DNS: the old ones may still be right
	}
	if a.stun.setServers(servers) {
		now := time.Now()
		a.stun.start(now)
		a.advanceSTUN(now)
		a.stunAnswered(false, false)
	}
}

// resolution is what came of asking for names.
type resolution struct {
	names   []string
	servers []netip.AddrPort
}

// resolve turns names into addresses and hands them to Run.
func (a *Agent) resolve(ctx context.Context, names []string) {
	r := resolution{names: names}
	for _, name := range names {
		r.servers = append(r.servers, a.lookup(ctx, name)...)
	}
	select {
	case <-ctx.Done():
	case a.resolved <- r:
	}
}

// lookup returns the addresses of host:port; none if it cannot be resolved now.
func lookup(ctx context.Context, name string) []netip.AddrPort {
	if ap, err := netip.ParseAddrPort(name); err == nil {
		return []netip.AddrPort{unmap(ap)}
	}
	hostname, portText, err := net.SplitHostPort(name)
	port, perr := strconv.ParseUint(portText, 10, 16)
	if err != nil || perr != nil || port == 0 || hostname == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", hostname)
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return out
}
