package discovery

import (
	"sync"

	"nexd/key"
)

// published is what other goroutines may read of the agent.
type published struct {
	pubMu sync.Mutex // guards the fields below
	paths map[key.Public]PeerPath
	nat   NATInfo

	news bool // owned by Run: OnChange is due
}

func newPublished() published {
	return published{paths: make(map[key.Public]PeerPath), nat: NATInfo{Kind: NATUnknown}}
}

// Peer returns how the peer is reached now; for one never talked to, idle.
func (p *published) Peer(peer key.Public) PeerPath {
	p.pubMu.Lock()
	defer p.pubMu.Unlock()
	if path, ok := p.paths[peer]; ok {
		return path
	}
	return PeerPath{State: Idle}
}

// NAT returns what the STUN servers say.
func (p *published) NAT() NATInfo {
	p.pubMu.Lock()
	defer p.pubMu.Unlock()
	return p.nat // its slice is replaced, never changed
}

// changed publishes p's path if it is another than before.
func (a *Agent) changed(p *peer) {
	m := p.machine
	path := PeerPath{State: m.state(), Since: m.since, Spare: m.told.spare, Both: m.told.both, MTU: m.toldMTU}
	if m.best != nil {
		path.Addr, path.Held = m.best.Addr, m.switched
		if m.best.n > 0 {
			path.RTT = m.best.rtt()
		}
	}
	if path == p.shown {
		return
	}
	if path.State != p.shown.State || path.Addr != p.shown.Addr {
		a.news = true
	}
	p.shown = path
	a.pubMu.Lock()
	a.paths[p.key] = path
	a.pubMu.Unlock()
}

func (a *Agent) unpublish(peer key.Public) {
	a.pubMu.Lock()
	delete(a.paths, peer)
	a.pubMu.Unlock()
	a.news = true
}

// publish tells once of all changes since the last call.
func (a *Agent) publish() {
	if a.news && a.config.OnChange != nil {
		a.news = false
		a.config.OnChange()
	}
}

// Stats counts what an agent did and dropped since it was made.
type Stats struct {
	Checks     uint64 // sent
	Padded     uint64 // of those, to find how large packets may be
	MTURaised  uint64 // times packets to a peer might be larger
	MTULowered uint64 // or had to be smaller
	Answers    uint64 // sent
	Unverified uint64 // packets nobody here asked for, or not proved
	Replayed   uint64 // checks and offers seen before
	Limited    uint64 // checks not sent or not answered: over a budget
	Failed     uint64 // packets the socket refused
	Signals    uint64 // offers sent
	HardRounds uint64 // rounds of guessing ports of hard NATs
	Dropped    uint64 // packets, signals and wants that found a queue full, or were no STUN
}

// Stats may be called at any time.
func (a *Agent) Stats() Stats {
	c := &a.counters
	return Stats{
		Checks: c.checks.Load(), Padded: c.padded.Load(), MTURaised: c.mtuRaised.Load(), MTULowered: c.mtuLowered.Load(),
		Answers: c.answers.Load(), Unverified: c.unverified.Load(), Replayed: c.replayed.Load(),
		Limited: c.limited.Load(), Failed: c.failed.Load(), Signals: c.signals.Load(), HardRounds: c.hardRounds.Load(),
		Dropped: a.droppedPackets.Load() + a.droppedSignals.Load() + a.droppedWants.Load(),
	}
}
