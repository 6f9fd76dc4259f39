package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"nexd/internal/logkey"
)

// Config is what a [Mapper] is made of.
type Config struct {
	// Port is the local UDP port to map; 0 while there is none. It must be
	// cheap and safe to call from any goroutine. Required.
	Port func() uint16
	// OnChange is told the addresses outside at which the port can be reached
	// now, one or none for each IP version; nil when there are none. It is called
	// by Run, one call at a time, and must not block. Required.
	OnChange func([]netip.AddrPort)
	// Secret is what PCP's nonces are made of: with the same one, a mapping
	// left behind by a crash can be renewed. Nil: a new one.
	Secret []byte
	// Log takes one line per change; nil: none.
	Log *slog.Logger
}

// Protocols of [Status].
const (
	PCP  = "pcp"
	PMP  = "nat-pmp"
	UPnP = "upnp"
)

// Keys of log lines that no other package has.
const (
	keyProtocol = "protocol"
	keyExpires  = "expires"
)

// Status is what came of asking the gateway.
type Status struct {
	// Protocol the gateway understood: [PCP], [PMP] or [UPnP]; "": none yet.
	Protocol string
	// External is the address outside; invalid while there is no mapping.
	External netip.AddrPort
	// External6 is the same by IPv6: a hole in the gateway's firewall, by PCP.
	External6 netip.AddrPort
	// Expires is when the gateway forgets the mapping unless it is renewed; of
	// the one by IPv4 if there is one.
	Expires time.Time
	// Err says why there is no mapping by IPv4, in words for people; "": there
	// is one, nothing was asked yet, or it is useless.
	Err string
	// Useless says why nobody outside would reach External, which is then not
	// offered, nor kept; "": they would.
	Useless string
}

// Mapper keeps a port mapped.
type Mapper struct {
	c      Config
	finder finder
	lanes  [2]*lane // IPv4, IPv6

	changed chan struct{} // of one: results has another value

	mu      sync.Mutex
	results [2]result // of the lanes; mu guards them
}

// New returns a mapper; Run starts it.
func New(c Config) *Mapper {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mapper{c: c, changed: make(chan struct{}, 1)}
	m.finder = finder{secret: slices.Clone(c.Secret), port: gatewayPort, ssdp: ssdpGroup}
	if len(m.finder.secret) == 0 {
		m.finder.secret = make([]byte, 32)
		rand.Read(m.finder.secret) // never fails
	}
	for i := range m.lanes {
		v6 := i == 1
		m.lanes[i] = &lane{
			m: m, v6: v6, wake: make(chan struct{}, 1), news: make(chan news, 1),
			findLink: func() (link, error) { return findLink(v6) }, find: m.finder.find, listen: listenAll,
		}
	}
	return m
}

// Run keeps the port mapped until ctx ends, takes the mapping back (within a
// second) and returns nil. It may be called once.
func (m *Mapper) Run(ctx context.Context) error {
	var lanes sync.WaitGroup
	for _, l := range m.lanes {
		lanes.Go(func() { l.run(ctx) })
	}
	defer lanes.Wait()
	var offered []netip.AddrPort
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
			if now := m.offer(); !slices.Equal(now, offered) {
				offered = now
				m.c.OnChange(slices.Clone(now))
			}
		}
	}
}

// Wake says that the network changed, or that the port did: the gateway is
// asked again at once. It does not block.
func (m *Mapper) Wake() {
	for _, l := range m.lanes {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// Status returns what is known now.
func (m *Mapper) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	four, six := m.results[0], m.results[1]
	s := Status{Protocol: four.protocol, External: four.external, Expires: four.expires, Useless: four.useless}
	if four.err != nil {
		s.Err = four.err.Error()
	}
	if six.useless == "" && six.external.IsValid() {
		s.External6 = six.external
		if s.Protocol == "" {
			s.Protocol, s.Expires = six.protocol, six.expires
		}
	}
	return s
}

// offer is what peers are told.
func (m *Mapper) offer() []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netip.AddrPort
	for _, r := range m.results {
		if r.external.IsValid() && r.useless == "" {
			out = append(out, r.external)
		}
	}
	return out
}

// publish notes a lane's result, and logs it if it is another one than before.
func (m *Mapper) publish(v6 bool, r result) {
	i := 0
	if v6 {
		i = 1
	}
	m.mu.Lock()
	before := m.results[i]
	m.results[i] = r
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
	switch {
	case r.external.IsValid() && (r.external != before.external || r.useless != before.useless):
		line := []any{logkey.Addr, r.external, keyProtocol, r.protocol}
		if r.useless != "" {
			m.c.Log.Info("port mapping is of no use", append(line, logkey.Reason, r.useless)...)
		} else {
			m.c.Log.Info("port mapped", append(line, keyExpires, r.expires)...)
		}
	case !r.external.IsValid() && before.external.IsValid():
		m.c.Log.Info("port mapping lost", logkey.Addr, before.external, logkey.Reason, r.err)
	case r.err != nil && !errors.Is(r.err, errNoPort) && !v6 && (before.err == nil || r.err.Error() != before.err.Error()):
		m.c.Log.Info("no port mapping", logkey.Reason, r.err)
	}
}
