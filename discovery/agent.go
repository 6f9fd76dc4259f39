package discovery

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nexd/internal/stunwire"
	"nexd/key"
)

// Agent is the discovery of one node. [Agent.Run] owns everything but inbox and
// published; all other methods may be called from anywhere, at any time, also
// before and after Run, and never block.
type Agent struct {
	inbox
	published

	config Config
	log    *slog.Logger
	self   key.Public

	// Owned by Run.
	epoch     uint64 // of the session opened last
	peers     map[key.Public]*peer
	byHint    map[stunwire.Hint]*peer
	active    map[*peer]struct{} // machines that have something to do
	due       time.Time          // of the first of them
	planned   time.Time          // when Run looks again at the latest; zero: it has just begun
	asked     map[stunwire.TxID]ask
	answers   limit // to all peers
	unhurried limit // checks of bursts, to all peers
	padded    limit // padded checks, to all peers
	spared    limit // of those, such as ask after streams that stopped
	waiting   []waiting
	net       network
	stun      stunClient
	stunNext  time.Time // the next round while somebody is active
	deferred  []deferredOffer
	ports     []netip.AddrPort // mappings of the gateway
	said      []netip.AddrPort // as servers see us, in the last offer
	hard      *prober
	relays    map[uint16]Relay
	ownRelays []key.Public // home first
	ranking   uint64       // of the list of relays; each change is another
	hints     hintBook
	toDerive  deriveQueue
	derived   chan derivedSecrets
	resolved  chan resolution
	resolving bool
	questions chan func()
	ended     chan struct{} // closed with Run
	jobs      chan signalJob
	results   chan signalResult

	// interfaces lists the machine's addresses; tests replace it.
	interfaces func(exclude func(netip.Addr) bool) ([]localAddr, error)
	// lookup turns host:port into addresses; tests replace it.
	lookup   func(ctx context.Context, name string) []netip.AddrPort
	counters struct {
		checks, padded, mtuRaised, mtuLowered                               atomic.Uint64
		answers, unverified, replayed, limited, failed, signals, hardRounds atomic.Uint64
	}
}

// peer is a member of the network.
type peer struct {
	key     key.Public
	secrets *secrets // nil: not derived yet
	relays  []uint16 // as the service says
	ranked  uint64   // the ranking its machine has
	*session
}

// session is what is kept of a peer that was ever talked to.
type session struct {
	machine  *machine
	next     time.Time // of the machine
	epoch    uint64    // ours towards this peer: the agent's as it was opened, or later if the peer knows a later one
	checkSeq uint64
	offerSeq uint64
	checks   window
	offers   window
	answers  limit
	// ownAnswers are those that what other peers ask for cannot take away: enough
	// to hold a path.
	ownAnswers limit
	offerRate  limit
	staleRate  limit           // answers to what is stale
	againRate  limit           // checks made again as they were stale
	asked      []stunwire.TxID // oldest first, at most maxAsked
	activated  time.Time
	shown      PeerPath       // as published
	mtu        int            // as told; 0: not yet
	offered    []uint16       // relays, as the peer's last offer says
	nat        uint8          // likewise
	punchHard  bool           // likewise: it guesses ports of hard NATs, too
	hardAt     time.Time      // when the last round of guesses began
	hole       netip.AddrPort // reached by a socket of its own; invalid: none is
	story      story
}

// Bounds of the agent.
const (
	answersPerPeer = 20  // a second
	answersInAll   = 200 // a second
	answersOwn     = 5   // a second to each peer, beside those: as often as a path in doubt is checked
	burstRate      = 50  // checks of bursts a second, to addresses outside our networks
	burstBurst     = 50
	paddedRate     = 100 // padded checks a second, to all peers
	paddedBurst    = 100
	sparedRate     = 8
	sparedBurst    = 8
	maxWaiting     = 512 // checks held back by that
	waitingFor     = 2 * time.Second
	maxAsked       = 64 // checks of one peer whose answers still count
	askedFor       = 10 * time.Second
	interfacesTick = 2 * time.Second
	hintsTick      = 10 * time.Second
	resolveAgain   = 10 * time.Minute
	resolveRetry   = 10 * time.Second
)

// New returns an agent that does nothing until Run. It panics without a
// private key, a socket and paths: that is a mistake of the program.
func New(c Config) *Agent {
	if c.Private.IsZero() || c.Socket == nil || c.Paths == nil {
		panic("discovery: Config without Private, Socket or Paths")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Exclude == nil {
		c.Exclude = func(netip.Addr) bool { return false }
	}
	a := &Agent{
		inbox: newInbox(), published: newPublished(),
		config: c, log: c.Log, self: c.Private.Public(),
		peers: make(map[key.Public]*peer), byHint: make(map[stunwire.Hint]*peer),
		active: make(map[*peer]struct{}), asked: make(map[stunwire.TxID]ask),
		answers: newLimit(answersInAll, answersInAll), unhurried: newLimit(burstRate, burstBurst), padded: newLimit(paddedRate, paddedBurst), spared: newLimit(sparedRate, sparedBurst),
		relays: make(map[uint16]Relay), ranking: 1,
		net: network{only: c.LocalIP.Unmap()}, stun: newSTUNClient(), hard: newProber(c), hints: newHintBook(c.Hints),
		toDerive: newDeriveQueue(), derived: make(chan derivedSecrets, 64), resolved: make(chan resolution),
		questions: make(chan func()), ended: make(chan struct{}),
		jobs: make(chan signalJob, signalQueue), results: make(chan signalResult, signalQueue),
		interfaces: systemAddrs, lookup: lookup,
	}
	a.SetSTUN(c.STUN)
	return a
}

// Run works until ctx ends, then returns nil once all it started has ended.
func (a *Agent) Run(ctx context.Context) error {
	// The clock orders our lives for the peers' replay windows. When it went
	// back, a peer's answer says so, and the epoch towards that peer is raised.
	a.epoch = uint64(max(time.Now().UnixMicro(), 1))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer close(a.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks.Go(func() { a.derive(ctx) })
	for range signalWorkers {
		tasks.Go(func() { a.signalWorker(ctx) })
	}
	defer a.closeHoles()

	a.readInterfaces()
	var (
		timer     = newAlarm(0)
		look      = newAlarm(interfacesTick)
		keepHints = newAlarm(hintsTick)
		resolveAt = time.Now()
		hintsDone = make(chan struct{}, 1)
		writing   bool
	)
	defer timer.stop()
	defer look.stop()
	defer keepHints.stop()
	for {
		select {
		case <-ctx.Done():
			if writing {
				<-hintsDone
			}
			a.giveHints()
			return nil
		case <-a.wake:
			a.takeMail(&resolveAt)
		case p := <-a.packets:
			a.handlePacket(p)
		case s := <-a.signals:
			a.handleOffer(s)
		case f := <-a.questions:
			f()
		case d := <-a.derived:
			a.learnSecrets(d)
		case s := <-a.hard.opened:
			a.holesOpened(s)
		case r := <-a.results:
			a.offerDone(r)
		case r := <-a.resolved:
			a.resolving = false
			switch {
			case !slices.Equal(r.names, a.serverNames()):
				resolveAt = time.Now() // others were named meanwhile
			case len(r.servers) == 0:
				resolveAt = time.Now().Add(resolveRetry)
			default:
				resolveAt = time.Now().Add(resolveAgain)
			}
			a.serversResolved(r.servers)
		case <-look.C:
			look.set(interfacesTick)
			if a.readInterfaces() {
				a.networkChanged()
			}
		case <-keepHints.C:
			keepHints.set(hintsTick)
			if !writing && a.config.OnHints != nil && a.hints.dirty {
				hints := a.hints.take()
				writing = true
				// It writes a file: not on this goroutine.
				tasks.Go(func() { a.config.OnHints(hints); hintsDone <- struct{}{} })
			}
		case <-hintsDone:
			writing = false
		case <-timer.C:
		}
		now := time.Now()
		a.forgive(now)
		if !now.Before(resolveAt) && !a.resolving {
			a.resolving = true
			names := a.serverNames()
			tasks.Go(func() { a.resolve(ctx, names) })
		}
		a.advance(now)
		sleep := a.sleep(now)
		a.planned = now.Add(sleep)
		timer.set(sleep)
	}
}

// overslept is how much later than it wanted this loop may look again before that
// counts: on a machine that is too busy, or was suspended.
const overslept = 50 * time.Millisecond

// forgive keeps peers from being blamed for not answering while this process did
// not run: what they sent meanwhile lies in the socket.
func (a *Agent) forgive(now time.Time) {
	late := now.Sub(a.planned)
	if a.planned.IsZero() || late < overslept {
		return
	}
	for p := range a.active {
		p.machine.overslept(late)
	}
}

// advance does what is due at now.
func (a *Agent) advance(now time.Time) {
	a.advanceSTUN(now)
	if !a.due.IsZero() && !now.Before(a.due) {
		a.due = time.Time{}
		for p := range a.active {
			if !p.next.After(now) {
				a.step(p, now, func(*machine) {})
			} else {
				a.dueBy(p.next)
			}
		}
		a.forgetAsks(now)
	}
	a.advanceHard(now)
	a.flushOffers(now)
	a.flushWaiting(now)
	a.publish()
}

// step hands the machine of p an event, lets the time pass and does what it says.
func (a *Agent) step(p *peer, now time.Time, event func(*machine)) {
	m := p.machine
	if p.ranked != a.ranking {
		a.rank(p, now)
	}
	event(m)
	var seen Activity
	if a.config.Activity != nil {
		seen = a.config.Activity(p.key)
	}
	m.tick(now, seen)
	for out := m.take(); len(out) > 0; out = m.take() { // what was refused at once has consequences
		for _, x := range out {
			a.act(p, now, x)
		}
	}
	if p.next = m.next(now); p.next.IsZero() {
		delete(a.active, p)
	} else {
		a.active[p] = struct{}{}
		a.dueBy(p.next)
	}
	if p.hole.IsValid() && !m.keeps(p.hole) {
		a.releaseHole(p)
	}
	a.changed(p)
}

func (a *Agent) dueBy(t time.Time) {
	if a.due.IsZero() || t.Before(a.due) {
		a.due = t
	}
}

// sleep is the time until something is due.
func (a *Agent) sleep(now time.Time) time.Duration {
	next := now.Add(time.Hour)
	for _, t := range []time.Time{a.due, a.stun.next(), a.nextSTUN(now), a.nextDeferred(), a.nextWaiting(), a.nextHard()} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return max(next.Sub(now), 0)
}

// act does one action of p's machine.
func (a *Agent) act(p *peer, now time.Time, x action) {
	switch x.do {
	case doCheck:
		if x.now || a.unhurried.take(now) {
			a.sendCheck(p, x.addr, now)
		} else if len(a.waiting) < maxWaiting {
			a.waiting = append(a.waiting, waiting{p, x.addr, now})
		} else {
			a.limitedCheck(p, x.addr)
		}
	case doOffer:
		a.queueOffer(p, now, outgoing{reply: x.reply, delay: x.delay})
	case doPath:
		a.config.Paths.SetRoute(p.key, x.route.path, x.route.spare, x.route.both)
		a.tellPath(p, now, x)
	case doPadded:
		if x.spare && !a.spared.take(now) {
			p.machine.sizeDropped(x.addr, x.mtu)
			return
		}
		a.sendPadded(p, x.addr, x.mtu, now)
	case doMTU:
		a.setMTU(p, now, x)
	case doUse:
		if a.config.UseRelay != nil {
			a.config.UseRelay(x.relay)
		}
	case doGuess:
		a.propose(p, now)
	case doSTUN:
		fresh := stunFresh
		if x.now {
			fresh = stunDoubt
		}
		if now.Sub(a.stun.began) > fresh {
			a.stun.start(now)
			a.advanceSTUN(now)
		}
	}
	a.noteHints(p, now)
}

// open returns the peer with its session and secrets, or nil if it is no
// member or its key is bad.
func (a *Agent) open(k key.Public, now time.Time) *peer {
	p := a.peers[k]
	if p == nil {
		return nil
	}
	if p.secrets == nil {
		s, err := newSecrets(a.config.Private, a.self, k)
		if err != nil {
			return nil
		}
		a.learnSecrets(derivedSecrets{k, s})
	}
	if p.session == nil {
		hints := a.hints.addrs(k)
		kept := hints[:0]
		for _, h := range hints {
			if usable(h, a.config.Exclude) && !a.isSelf(h) {
				kept = append(kept, h)
			}
		}
		// Its counts begin anew, and the peer may remember those of a session before.
		a.epoch++
		p.session = &session{
			machine: newMachine(now, kept, a.net.near, a.maxMTU()), epoch: a.epoch,
			answers: newLimit(answersPerPeer, answersPerPeer), ownAnswers: newLimit(answersOwn, answersOwn), offerRate: newLimit(2, 10), staleRate: newLimit(1, 2), againRate: newLimit(1, 2),
		}
	}
	return p
}

// activate tells that p proved itself.
func (a *Agent) activate(p *peer, now time.Time) {
	if a.config.Activate != nil && !within(p.activated, now, time.Second) {
		p.activated = now
		a.config.Activate(p.key)
	}
}

// isSelf reports whether addr is our own socket.
func (a *Agent) isSelf(addr netip.AddrPort) bool {
	return addr.Port() == a.config.Socket.Port() && (a.net.has(addr.Addr()) || addr.Addr().IsLoopback())
}
