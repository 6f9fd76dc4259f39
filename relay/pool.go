package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"nexd/internal/logkey"
	"nexd/key"
)

// Info is what a node is told of a relay.
type Info struct {
	ID   string // of the service; it stays when the rest changes
	Name string // for people
	Key  key.Public
	UDP  []string // host:port, IPv4 and IPv6; may be empty
	URL  string   // for WebSocket; may be empty
	// TLS is for URL and may be nil. It must not change; two lists that give
	// the same pointer mean the same.
	TLS *tls.Config
}

// PoolConfig is what a [Pool] needs.
type PoolConfig struct {
	// Private is the device's key.
	Private key.Private
	// WriteUDP sends datagrams on the node's socket; it must not keep them.
	// nil: only WebSocket is used.
	WriteUDP func(packets [][]byte, to netip.AddrPort) error
	// Credential returns the newest credential, or nothing while there is none.
	// It must not block; see [Pool.Wake].
	Credential func() []byte
	// Deliver takes packets that came by TLS. It is called by the reader of the
	// connection, for several relays at a time, and must not keep the packet.
	Deliver func(relay uint16, peer key.Public, packet []byte)
	// DeliverAll takes the packets of a peer that came together instead, by one
	// call; nil: each goes to Deliver.
	DeliverAll func(relay uint16, peer key.Public, packets [][]byte)
	// OnChange is told that Status or Homes say something else than before. It
	// is called by Run's goroutine, must not block, and may be nil.
	OnChange func()
	// OnPresence is told that a peer packets were sent to is not at a relay, or
	// has come. Several relays may call at a time; it must not block, and may be nil.
	OnPresence func(relay uint16, peer key.Public, here bool)
	// Proxy and Dial are those of [ClientConfig].
	Proxy func(*http.Request) (*url.URL, error)
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	// Log may be nil.
	Log *slog.Logger
}

// Pool keeps the sessions of one node with the relays of its network: one with
// its home (the nearest), one with its standby (the second nearest), and
// others on demand. Inside the process each relay has a number.
type Pool struct {
	cfg PoolConfig
	log *slog.Logger

	// For the data path: replaced, never changed.
	byNumber atomic.Pointer[[]*member] // index 0: none; a number's member is there for ever
	byAddr   atomic.Pointer[map[netip.AddrPort]*member]
	chosen   atomic.Pointer[chosen]
	count    poolCounters

	onDemand    time.Duration // as the constant; tests are shorter
	maxSessions int

	kick    chan struct{}
	answers chan probeAnswer
	ran     atomic.Bool
	woken   atomic.Bool
	changed atomic.Bool // something to tell OnChange

	mu      sync.Mutex // guards the fields below, and what members say it guards
	list    []*member  // of the newest SetRelays, in its order
	byID    map[string]*member
	live    map[*Client]struct{}
	retired ClientStats // of those that have ended
}

// PoolStatus is how a node stands with one relay of its list.
type PoolStatus struct {
	Number        uint16 // 1 and up; it stays with the relay for as long as the pool lives
	ID, Name, URL string
	Key           key.Public
	UDP           netip.AddrPort // where it answers by UDP; invalid: not known

	Home, Standby bool
	Connected     bool // there is a session
	Suspect       bool // of its session: a ping is overdue while packets are sent
	Draining      bool // the relay asks to use another
	Transport     Transport
	RTT           time.Duration // of the session, or as measured without one; 0: not known
	Since         time.Time     // of the session, or of its loss; zero: there was none
	Fresh         time.Time     // when its way last changed: what was sent just before may be lost
	Err           error         // why there is no session though one is wanted
}

// PoolStats are sums over all relays since the pool was made.
type PoolStats struct {
	ClientStats
	DroppedNoSession uint64 // packets for a relay without a session
	Probes           uint64 // questions sent to measure relays
	ProbesAnswered   uint64
	HomeChanges      uint64 // another relay became home; the first does not count
	SessionsUDP      int    // now
	SessionsTLS      int    // now
}

type poolCounters struct {
	noSession, probes, answered, homes atomic.Uint64
}

// maxNumber is the highest number of a relay.
const maxNumber = 65535

// NewPool checks the config. It starts nothing.
func NewPool(cfg PoolConfig) (*Pool, error) {
	switch {
	case cfg.Private.IsZero():
		return nil, errors.New("relay pool: Private is not set")
	case cfg.Credential == nil:
		return nil, errors.New("relay pool: Credential is not set")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pool{
		cfg: cfg, log: cfg.Log, kick: make(chan struct{}, 1), answers: make(chan probeAnswer, 64),
		byID: map[string]*member{}, onDemand: onDemand, maxSessions: maxSessions, live: map[*Client]struct{}{},
	}
	p.byNumber.Store(&[]*member{nil})
	p.byAddr.Store(&map[netip.AddrPort]*member{})
	p.chosen.Store(&chosen{})
	return p, nil
}

// SetRelays replaces the list. A relay (by ID) that stays keeps its number, and
// its session unless its key or addresses have changed; one that leaves loses
// its session and gets its number again if it returns. Relays that cannot be
// used (no ID, no key, neither UDP nor a URL), an ID said twice and what would
// be the 65536th number are passed over and logged.
func (p *Pool) SetRelays(list []Info) {
	var errs []error
	p.mu.Lock()
	next := make([]*member, 0, len(list))
	seen := map[*member]bool{}
	for _, info := range list {
		m, err := p.memberOf(info)
		if err == nil && seen[m] {
			err = fmt.Errorf("relay %s is in the list twice", info.ID)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		next = append(next, m)
		seen[m] = true
		m.set(info)
	}
	for _, m := range p.list {
		if !seen[m] {
			m.info.Store(nil)
		}
	}
	p.list = next
	p.indexAddrs()
	p.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		p.log.Warn("relays passed over", logkey.Err, err)
	}
	p.changed.Store(true)
	p.nudge()
}

// check says whether a relay can be used.
func (i Info) check(udp bool) error {
	switch {
	case i.ID == "":
		return fmt.Errorf("relay %q has no id", i.Name)
	case i.Key.IsZero():
		return fmt.Errorf("relay %s has no key", i.ID)
	case i.URL == "" && (len(i.UDP) == 0 || !udp):
		return fmt.Errorf("relay %s has neither a URL nor UDP addresses to use", i.ID)
	}
	if i.URL != "" {
		if u, err := url.Parse(i.URL); err != nil || u.Host == "" {
			return fmt.Errorf("relay %s: %q is not a URL", i.ID, i.URL)
		}
	}
	return nil
}

// Use says that a session with a relay is wanted for the next two minutes. It
// costs little and may be called for every packet.
func (p *Pool) Use(relay uint16) {
	if m := p.member(relay); m != nil {
		p.use(m)
	}
}

// Wake makes Run act at once: on a new credential, or because the network has
// changed. It does not block.
func (p *Pool) Wake() {
	p.woken.Store(true)
	p.nudge()
}

// nudge makes Run look.
func (p *Pool) nudge() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}
