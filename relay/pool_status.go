package relay

import (
	"slices"
)

// chosen are the home and the standby as others see them. It is replaced,
// never changed.
type chosen struct {
	home, standby uint16
	ids           []string // to publish
	latched       [2]bool  // it had a session since it was chosen
}

// tell makes what was decided known, and says so if it is something new.
func (r *poolRunner) tell(list []standing) {
	p := r.p
	before := p.chosen.Load()
	now := &chosen{home: r.choice.home, standby: r.choice.standby}
	for i, n := range [...]uint16{now.home, now.standby} {
		if n == 0 {
			continue
		}
		s := find(list, n)
		now.latched[i] = s != nil && s.connected ||
			n == before.home && before.latched[0] || n == before.standby && before.latched[1]
		if now.latched[i] {
			now.ids = append(now.ids, p.member(n).id)
		}
	}
	if before.home != now.home || before.standby != now.standby || !slices.Equal(before.ids, now.ids) {
		p.chosen.Store(now)
		p.changed.Store(true)
		if before.home != now.home && now.home != 0 {
			p.log.Info("home relay", relayKey, p.member(now.home).id)
		}
	}
	p.count.homes.Store(uint64(r.choice.changes))
	if p.changed.Swap(false) && p.cfg.OnChange != nil {
		p.cfg.OnChange()
	}
}

// Homes returns the ids to publish: of the home, then of the standby. One is
// named when there was a session with it; so it is empty until the first.
func (p *Pool) Homes() []string { return slices.Clone(p.chosen.Load().ids) }

// Status says how the node stands with each relay of the list, by number.
func (p *Pool) Status() []PoolStatus {
	p.mu.Lock()
	list := slices.Clone(p.list)
	p.mu.Unlock()
	slices.SortFunc(list, func(a, b *member) int { return int(a.number) - int(b.number) })
	homes := p.chosen.Load()
	out := make([]PoolStatus, 0, len(list))
	for _, m := range list {
		info := m.info.Load()
		if info == nil {
			continue
		}
		s := PoolStatus{
			Number: m.number, ID: m.id, Name: info.Name, URL: info.URL, Key: info.Key,
			Home: m.number == homes.home, Standby: m.number == homes.standby,
		}
		if known := m.known.Load(); known != nil {
			s.UDP, s.RTT = known.addr, known.rtt
		}
		if c := m.client.Load(); c != nil {
			st := c.Status()
			s.Connected, s.Suspect, s.Draining = st.Transport != NoTransport, st.Suspect, st.Draining
			s.Transport, s.Since, s.Fresh, s.Err = st.Transport, st.Since, st.Fresh, st.Err
			if st.RTT != 0 {
				s.RTT = st.RTT
			}
			if st.Addr.IsValid() {
				s.UDP = st.Addr
			}
		}
		out = append(out, s)
	}
	return out
}

// Stats may be called at any time.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	sum := PoolStats{ClientStats: p.retired}
	for c := range p.live {
		sum.ClientStats.add(c.Stats())
		switch c.Status().Transport {
		case UDP:
			sum.SessionsUDP++
		case TLS:
			sum.SessionsTLS++
		case NoTransport:
		}
	}
	p.mu.Unlock()
	sum.DroppedNoSession = p.count.noSession.Load()
	sum.Probes, sum.ProbesAnswered = p.count.probes.Load(), p.count.answered.Load()
	sum.HomeChanges = p.count.homes.Load()
	return sum
}

// retire keeps the counters of a client that has ended.
func (p *Pool) retire(c *Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, c)
	p.retired.add(c.Stats())
}

func (s *ClientStats) add(o ClientStats) {
	s.SentPackets += o.SentPackets
	s.SentBytes += o.SentBytes
	s.ReceivedPackets += o.ReceivedPackets
	s.ReceivedBytes += o.ReceivedBytes
	s.DroppedOffline += o.DroppedOffline
	s.DroppedQueue += o.DroppedQueue
	s.DroppedSend += o.DroppedSend
	s.DroppedFrames += o.DroppedFrames
}
