package relay

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"nexd/internal/logkey"
	"nexd/key"
)

const (
	onDemand    = 2 * time.Minute // a session lasts so long after its last use
	usePoll     = 15 * time.Second
	maxSessions = 16 // of a pool, with home and standby
)

// poolSession is a client at work.
type poolSession struct {
	client  *Client
	info    *Info
	cancel  context.CancelFunc
	packets uint64 // both ways, at the last look
}

// follow ends sessions with relays that left the list or are another now.
func (r *poolRunner) follow(list []*member) {
	if !slices.Equal(list, r.list) {
		r.list, r.round.again = list, true
	}
	for m, s := range r.sessions {
		switch info := m.info.Load(); {
		case info != nil && (info == s.info || info.same(*s.info)):
			s.info = info
		default:
			r.end(m)
			r.learn(m, nil)
			r.round.again = info != nil || r.round.again
		}
	}
	for m := range r.measures {
		if m.info.Load() == nil {
			r.learn(m, nil)
		}
	}
}

// keep begins the sessions that are wanted, ends the others, and returns when
// that may change.
func (r *poolRunner) keep(ctx context.Context, now time.Time, list []*member, state []standing) (next time.Time) {
	next = now.Add(time.Hour)
	var wanted []*member
	add := func(m *member) {
		if m != nil && m.info.Load() != nil && !slices.Contains(wanted, m) && len(wanted) < r.p.maxSessions {
			wanted = append(wanted, m)
		}
	}
	for _, n := range r.choice.wanted(state, r.round.first) {
		add(r.p.member(n))
	}
	for _, m := range r.inUse(now, list) {
		add(m)
		next = earlier(next, now.Add(min(usePoll, r.p.onDemand/8)))
	}
	if r.round.asked {
		for _, m := range list[:min(len(list), maxProbed)] {
			if r.measures[m].rtt == 0 {
				add(m)
			}
		}
	}
	for m := range r.sessions {
		if !slices.Contains(wanted, m) {
			r.end(m)
		}
	}
	for _, m := range wanted {
		if r.sessions[m] == nil {
			r.begin(ctx, m)
		}
	}
	return next
}

// inUse returns the relays packets went through lately, or are to, the latest first.
func (r *poolRunner) inUse(now time.Time, list []*member) (out []*member) {
	for m, s := range r.sessions {
		st := s.client.Stats()
		if n := st.SentPackets + st.ReceivedPackets; n != s.packets {
			s.packets = n
			m.used.Store(max(m.used.Load(), now.UnixNano()))
		}
	}
	used := map[*member]int64{} // as of now: others change it meanwhile
	for _, m := range list {
		if at := m.used.Load(); at > now.Add(-r.p.onDemand).UnixNano() {
			used[m] = at
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b *member) int { return cmp.Compare(used[b], used[a]) })
	return out
}

// begin starts a session.
func (r *poolRunner) begin(ctx context.Context, m *member) {
	p, info := r.p, m.info.Load()
	if info == nil {
		return
	}
	number := m.number
	client, err := NewClient(ClientConfig{
		Private: p.cfg.Private, Relay: info.Key, UDP: info.UDP, WriteUDP: p.cfg.WriteUDP,
		URL: info.URL, TLS: info.TLS, Proxy: p.cfg.Proxy, Dial: p.cfg.Dial, Credential: p.cfg.Credential,
		Deliver: func(peer key.Public, packets [][]byte) {
			if p.cfg.DeliverAll != nil {
				p.cfg.DeliverAll(number, peer, packets)
				return
			}
			if p.cfg.Deliver == nil {
				return
			}
			for _, packet := range packets {
				p.cfg.Deliver(number, peer, packet)
			}
		},
		OnStatus: func(Status) {
			p.changed.Store(true)
			p.nudge()
		},
		OnPresence: func(peer key.Public, what Presence) {
			if p.cfg.OnPresence != nil && (what == PeerGone || what == PeerHere) {
				p.cfg.OnPresence(number, peer, what == PeerHere)
			}
		},
		Log: p.log.With(relayKey, cmp.Or(info.Name, info.ID)),
		onAddrs: func(addrs []netip.AddrPort) {
			if now := m.info.Load(); now != nil && now.same(*info) {
				p.heardAt(m, &m.dialed, addrs)
			}
		},
	})
	if err != nil { // a key no secret can be derived with
		p.log.Warn("relay cannot be used", relayKey, info.ID, logkey.Err, err)
		m.info.Store(nil)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	r.sessions[m] = &poolSession{client: client, info: info, cancel: cancel}
	p.mu.Lock()
	p.live[client] = struct{}{}
	p.mu.Unlock()
	m.client.Store(client)
	r.running.Go(func() {
		if err := client.Run(ctx); err != nil {
			p.log.Error("relay session", logkey.Err, err)
		}
		p.retire(client)
	})
	p.changed.Store(true)
}

// relayKey is the name of a relay's attribute in the log.
const relayKey = "relay"

// end says goodbye, beside.
func (r *poolRunner) end(m *member) {
	m.client.Store(nil)
	r.sessions[m].cancel()
	delete(r.sessions, m)
	r.p.changed.Store(true)
}

// stop ends all sessions and waits for what Run started.
func (r *poolRunner) stop() {
	for m := range r.sessions {
		r.end(m)
	}
	r.running.Wait()
}
