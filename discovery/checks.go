package discovery

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"nexd/internal/relaypath"
	"nexd/internal/stunwire"
)

// ask is a check whose answer is awaited.
type ask struct {
	peer *peer
	to   netip.AddrPort
	at   time.Time
	mtu  int // it is padded to be as long as a packet of this size; 0: it is not
}

// waiting is a check of a burst held back by the budget.
type waiting struct {
	peer *peer
	to   netip.AddrPort
	at   time.Time
}

// sendCheck sends one check. An error of the socket is like a lost packet:
// a missing route or a firewall's EPERM concerns this address alone.
func (a *Agent) sendCheck(p *peer, to netip.AddrPort, now time.Time) {
	id, b := a.newCheck(p)
	a.await(id, ask{p, to, now, 0})
	a.write(p, b, to)
}

// sendPadded sends a check that is as long as a packet of mtu bytes would be on the
// path, or tells the machine why not.
func (a *Agent) sendPadded(p *peer, to netip.AddrPort, mtu int, now time.Time) {
	if !a.padded.take(now) {
		p.machine.sizeHeld(now, to, mtu)
		return
	}
	c := p.nextCheck()
	b := stunwire.AppendPaddedCheck(make([]byte, 0, mtu+sealedBy), c, mtu+sealedBy, &p.secrets.check)
	switch err := a.config.Socket.WriteWhole(b, p.key, to); {
	case errors.Is(err, syscall.EMSGSIZE):
		a.padded.giveBack() // it cost nobody a packet
		p.machine.sizeRefused(now, to, mtu)
		return
	case errors.Is(err, errors.ErrUnsupported):
		p.machine.sizeUnknown()
		return
	case err != nil:
		a.counters.failed.Add(1)
	}
	a.counters.checks.Add(1)
	a.counters.padded.Add(1)
	a.await(c.ID, ask{p, to, now, mtu})
}

// await keeps what an answer to a check is recognized by. What is too much is
// forgotten, the oldest first, those of the path last: many candidates never answer.
func (a *Agent) await(id stunwire.TxID, x ask) {
	a.asked[id] = x
	p := x.peer
	p.asked = append(p.asked, id)
	if len(p.asked) <= maxAsked {
		return
	}
	p.asked = slices.DeleteFunc(p.asked, func(id stunwire.TxID) bool { _, open := a.asked[id]; return !open })
	if len(p.asked) <= maxAsked {
		return
	}
	best := p.machine.best
	i := slices.IndexFunc(p.asked, func(id stunwire.TxID) bool { return best == nil || a.asked[id].to != best.Addr })
	i = max(i, 0)
	delete(a.asked, p.asked[i])
	p.asked = slices.Delete(p.asked, i, i+1)
}

// newCheck makes a check for p that is sent at once.
func (a *Agent) newCheck(p *peer) (stunwire.TxID, []byte) {
	a.counters.checks.Add(1)
	c := p.nextCheck()
	return c.ID, stunwire.AppendCheck(make([]byte, 0, 128), c, &p.secrets.check)
}

// nextCheck numbers a check.
func (p *peer) nextCheck() stunwire.Check {
	p.checkSeq++
	return stunwire.Check{ID: stunwire.NewTxID(), Hint: p.secrets.hintOut, Priority: prflx.priority(0), Epoch: p.epoch, Seq: p.checkSeq}
}

// write sends to a peer, to one of its addresses or through a relay.
func (a *Agent) write(p *peer, b []byte, to netip.AddrPort) {
	var err error
	if n := relaypath.Number(to); n != 0 {
		err = a.config.Socket.WriteRelay(n, p.key, b)
	} else {
		err = a.config.Socket.WriteSTUN(b, to)
	}
	if err != nil {
		a.counters.failed.Add(1)
	}
}

// forgetAsks drops what was asked too long ago.
func (a *Agent) forgetAsks(now time.Time) {
	for p := range a.active {
		for len(p.asked) > 0 {
			x, ok := a.asked[p.asked[0]]
			if ok && now.Sub(x.at) < askedFor {
				break
			}
			delete(a.asked, p.asked[0])
			p.asked = p.asked[1:]
		}
	}
}

// flushWaiting sends what the budget allows now.
func (a *Agent) flushWaiting(now time.Time) {
	for len(a.waiting) > 0 {
		w := a.waiting[0]
		stillThere := a.peers[w.peer.key] == w.peer && now.Sub(w.at) <= waitingFor
		if stillThere && !a.unhurried.take(now) {
			return
		}
		a.waiting = a.waiting[1:]
		if stillThere {
			a.sendCheck(w.peer, w.to, now)
		} else {
			a.limitedCheck(w.peer, w.to)
		}
	}
	a.waiting = nil
}

// limitedCheck: a check was over the budget, and is not sent.
func (a *Agent) limitedCheck(p *peer, to netip.AddrPort) {
	a.counters.limited.Add(1)
	if t := p.machine.find(to); t != nil && t.checks > 0 {
		t.checks--
	}
}

func (a *Agent) nextWaiting() time.Time {
	if len(a.waiting) == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Second / burstRate)
}

// handlePacket takes a STUN packet from the socket.
func (a *Agent) handlePacket(pkt packet) {
	if pkt.hole != nil {
		a.handleHole(pkt)
		return
	}
	m, err := stunwire.Parse(pkt.data)
	if err != nil {
		a.counters.unverified.Add(1)
		return
	}
	if m.Class == stunwire.Request {
		a.handleCheck(&m, pkt)
		return
	}
	if !m.HasIntegrity() {
		ours, changed, ended := a.stun.answered(&m, pkt.from, pkt.at)
		if !ours {
			a.counters.unverified.Add(1)
			return
		}
		a.stunAnswered(changed, ended)
		return
	}
	a.handleAnswer(&m, pkt)
}

// handleAnswer takes the answer to a check: only to one that is outstanding,
// only from the address that was asked, only in time, only with the pair's proof.
func (a *Agent) handleAnswer(m *stunwire.Message, pkt packet) {
	x, ok := a.asked[m.ID]
	guess := false
	if !ok && a.hard.guesser != nil {
		x, ok = a.hard.guesser.asked[m.ID]
		guess = ok
	}
	if !ok || x.to != pkt.from || !m.Verify(&x.peer.secrets.check) {
		a.counters.unverified.Add(1)
		return
	}
	if guess {
		delete(a.hard.guesser.asked, m.ID)
	}
	delete(a.asked, m.ID)
	now := time.Now()
	switch {
	case now.Sub(x.at) > askedFor:
		a.counters.unverified.Add(1) // somebody kept it
	case m.Class == stunwire.Success && m.Mapped.IsValid():
		if guess {
			x.peer.story.add(now, "a port was found")
		}
		a.step(x.peer, now, func(mach *machine) {
			if guess {
				mach.learn(candidate{Addr: pkt.from, Kind: prflx, Priority: prflx.priority(0)}, false)
			}
			mach.checkAnswered(now, pkt.from, x.at, x.mtu)
			if x.mtu == 0 {
				mach.answered(now, pkt.from, pkt.at.Sub(x.at))
			}
		})
	case m.Class == stunwire.Error && m.Code == stunwire.CodeStale && m.HasSequence:
		x.peer.raiseEpoch(m.Epoch)
		if x.peer.againRate.take(now) {
			a.sendCheck(x.peer, pkt.from, now)
		}
	}
}

// raiseEpoch: the peer remembers a later life of ours than this one, so our
// clock went back. A peer that lies harms only what we send to it.
func (s *session) raiseEpoch(known uint64) {
	if known > s.epoch && known < math.MaxUint64 {
		s.epoch = known + 1
	}
}

// handleCheck takes the check of a peer. What does not verify gets no answer.
func (a *Agent) handleCheck(m *stunwire.Message, pkt packet) {
	now := time.Now()
	p, answer, ok := a.takeCheck(m, pkt.from, now)
	if answer != nil {
		a.write(p, answer, pkt.from)
	}
	if ok {
		a.activate(p, now)
		a.step(p, now, func(mach *machine) { mach.checked(now, pkt.from, a.net.near(pkt.from.Addr())) })
	}
}

// takeCheck looks whose check it is and makes the answer, nil: there is none.
// ok: the check is verified and counts.
func (a *Agent) takeCheck(m *stunwire.Message, from netip.AddrPort, now time.Time) (p *peer, answer []byte, ok bool) {
	p = a.byHint[m.Hint]
	if p == nil || !m.HasHint || !m.HasSequence || !m.Verify(&p.secrets.check) {
		a.counters.unverified.Add(1)
		return nil, nil, false
	}
	relay := relaypath.Number(from)
	if relay == 0 && !usable(from, a.config.Exclude) {
		a.counters.unverified.Add(1) // a check through the mesh itself, or from nowhere
		return nil, nil, false
	}
	if p = a.open(p.key, now); p == nil {
		return nil, nil, false
	}
	switch p.checks.admit(m.Epoch, m.Seq) {
	case replayed:
		a.counters.replayed.Add(1)
		return p, nil, false
	case stale:
		a.counters.replayed.Add(1)
		if p.staleRate.take(now) && a.answers.take(now) {
			answer = stunwire.AppendCheckStale(make([]byte, 0, 128), m.ID, p.checks.epoch, &p.secrets.check)
		}
		return p, answer, false
	case fresh:
	}
	if !p.session.answers.take(now) || !p.ownAnswers.take(now) && !a.answers.take(now) {
		a.counters.limited.Add(1)
		return p, nil, false
	}
	a.counters.answers.Add(1)
	mapped := from
	if relay != 0 {
		mapped = netip.AddrPortFrom(netip.IPv6Unspecified(), 0) // a relay's number is nobody else's business
	}
	return p, stunwire.AppendCheckReply(make([]byte, 0, 128), m.ID, mapped, &p.secrets.check), true
}
