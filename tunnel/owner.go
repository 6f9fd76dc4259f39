package tunnel

import (
	"time"

	"golang.zx2c4.com/wireguard/device"

	"nexd/internal/logkey"
	"nexd/key"
)

const (
	// nudgeAfter is how long a member that was heard of has to shake hands
	// before we do. It may hold a session we have forgotten, and would go on
	// with it for 15 seconds.
	nudgeAfter = 200 * time.Millisecond

	shortestSweep = 10 * time.Millisecond
	longestSweep  = time.Minute
)

// request asks the owner to make WireGuard's configuration follow the table
// and to configure members.
type request struct {
	members []*member // may be stale rows: only the keys count
	inbound bool      // their packets are expected; else ours are waiting
	done    chan struct{}
}

// owner is the one goroutine that changes WireGuard's configuration.
type owner struct {
	tunnel     *Tunnel
	dev        *device.Device
	configured map[key.Public]*member // as WireGuard has them
	nudges     []nudge                // oldest first
	nudgeTimer *time.Timer
}

type nudge struct {
	peer key.Public
	due  time.Time
}

func newOwner(t *Tunnel, dev *device.Device) *owner {
	return &owner{tunnel: t, dev: dev, configured: make(map[key.Public]*member)}
}

// ask hands a request to the owner and waits until it is done, the tunnel
// ends, or the timer (nil: none) fires; then it returns false.
func (t *Tunnel) ask(r request, timeout <-chan time.Time) bool {
	r.done = make(chan struct{})
	select {
	case t.requests <- r:
	case <-t.closing:
		return false
	case <-t.done:
		return false
	case <-timeout:
		return false
	}
	select {
	case <-r.done:
		return true
	case <-t.closing:
		return false
	case <-t.done:
		return false
	case <-timeout:
		return false
	}
}

// askSoon is ask for those who cannot wait long: the packet path above all.
func (t *Tunnel) askSoon(r request) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	if !t.ask(r, timer.C) {
		t.count.late.Add(1)
	}
}

// run serves requests until the tunnel is closed or the device has ended.
func (o *owner) run() {
	t := o.tunnel
	sweep := time.NewTicker(min(max(t.cfg.IdleTimeout/8, shortestSweep), longestSweep))
	defer sweep.Stop()
	o.nudgeTimer = time.NewTimer(time.Hour)
	defer o.nudgeTimer.Stop()
	o.follow()
	for {
		select {
		case r := <-t.requests:
			o.follow()
			for _, m := range r.members {
				o.activate(m.key, r.inbound)
			}
			close(r.done)
		case <-sweep.C:
			o.sweep()
		case <-o.nudgeTimer.C:
			o.nudge()
		case <-t.closing:
			return
		case <-o.dev.Wait():
			return
		}
	}
}

// follow makes WireGuard's configuration agree with the table: removals
// first, so that an address is free before its next owner gets it.
func (o *owner) follow() {
	table := o.tunnel.table.Load()
	for k, have := range o.configured {
		if want := table.byKey[k]; want == nil || want.isStatic() != have.isStatic() {
			o.deactivate(have)
		}
	}
	for k, have := range o.configured {
		if want := table.byKey[k]; want != have {
			if err := o.dev.IpcSet(want.changeText()); err != nil {
				o.tunnel.log.Warn("peer not changed", logkey.Peer, k.Short(), logkey.Err, err)
				continue
			}
			o.configured[k] = want
		}
	}
	for _, m := range table.static {
		o.activate(m.key, false)
	}
}

// activate tells WireGuard of a member, unless it knows it.
func (o *owner) activate(k key.Public, inbound bool) {
	t := o.tunnel
	m := t.table.Load().byKey[k]
	if m == nil || o.configured[k] != nil {
		return
	}
	if err := o.dev.IpcSet(m.addText()); err != nil {
		t.log.Warn("peer not configured", logkey.Peer, k.Short(), logkey.Err, err)
		return
	}
	o.configured[k] = m
	m.life.began.Store(t.since())
	m.life.active.Store(true)
	t.count.activations.Add(1)
	t.log.Debug("peer active", logkey.Peer, k.Short())
	t.cfg.OnActivate(k)
	if inbound {
		if len(o.nudges) == 0 {
			o.nudgeTimer.Reset(nudgeAfter)
		}
		o.nudges = append(o.nudges, nudge{peer: k, due: time.Now().Add(nudgeAfter)})
	}
}

// deactivate has WireGuard forget a member and its session.
func (o *owner) deactivate(m *member) {
	t := o.tunnel
	// First: from here on a packet to it waits for the owner, and finds it
	// unconfigured then.
	m.life.active.Store(false)
	delete(o.configured, m.key)
	if err := o.dev.IpcSet(m.removeText()); err != nil {
		t.log.Warn("peer not removed", logkey.Peer, m.key.Short(), logkey.Err, err)
	}
	t.count.deactivations.Add(1)
	t.log.Debug("peer inactive", logkey.Peer, m.key.Short())
	t.cfg.OnDeactivate(m.key)
}

// sweep deactivates members that have been idle.
func (o *owner) sweep() {
	t := o.tunnel
	limit := t.since() - int64(t.cfg.IdleTimeout)
	var idle []*member
	for _, m := range o.configured {
		if !m.isStatic() && m.life.lastUse() <= limit {
			idle = append(idle, m)
		}
	}
	if len(idle) == 0 {
		return
	}
	seen := readPeers(o.dev)
	for _, m := range idle {
		o.deactivate(m)
		t.keep(m.life, seen[m.key])
	}
}

// nudge sends a handshake to members that were due to send one.
func (o *owner) nudge() {
	now := time.Now()
	var seen map[key.Public]devicePeer
	for len(o.nudges) > 0 && !o.nudges[0].due.After(now) {
		k := o.nudges[0].peer
		o.nudges = o.nudges[1:]
		if o.configured[k] == nil {
			continue
		}
		if seen == nil {
			seen = readPeers(o.dev)
		}
		if seen[k].handshake != 0 {
			continue
		}
		if p := o.dev.LookupPeer(device.NoisePublicKey(k.Bytes())); p != nil {
			p.SendKeepalive()
		}
	}
	if len(o.nudges) > 0 {
		o.nudgeTimer.Reset(time.Until(o.nudges[0].due))
	} else {
		o.nudges = nil
	}
}
