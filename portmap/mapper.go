package portmap

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Config is what a [Mapper] is made of.
type Config struct {
	// Port is the local UDP port to map; 0 while there is none. It must be
	// cheap, and is called from Run's goroutines. Required.
	Port func() uint16
	// OnChange is told the addresses outside at which the port can be reached
	// now, one or none for each IP version; nil when there are none. One call at
	// a time; it must not block. Required.
	OnChange func([]netip.AddrPort)
	// Log takes one line per change; nil: none.
	Log *slog.Logger
}

// Protocols of [Status].
const (
	PCP  = "pcp"
	PMP  = "nat-pmp"
	UPnP = "upnp"
)

// Status is what came of asking the gateway.
type Status struct {
	// Protocol the gateway understood: [PCP], [PMP] or [UPnP]; "": none yet.
	Protocol string
	// External is the address outside; invalid while there is no mapping.
	External netip.AddrPort
	// External6 is the same by IPv6: a hole in the gateway's firewall.
	External6 netip.AddrPort
	// Expires is when the gateway forgets the mapping unless it is renewed.
	Expires time.Time
	// Err says why there is no mapping, in words for people; "" if there is one.
	Err string
	// Useless says why nobody outside would reach External, which is then not
	// offered; "": they would.
	Useless string
}

// Mapper keeps a port mapped.
type Mapper struct {
	c    Config
	wake chan struct{} // of one

	mu     sync.Mutex
	status Status // mu guards it
}

// New returns a mapper; Run starts it.
func New(c Config) *Mapper {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Mapper{c: c, wake: make(chan struct{}, 1)}
}

// Run keeps the port mapped until ctx ends, takes the mapping back (within a
// second) and returns nil.
func (m *Mapper) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Wake says that the network changed, or that the port did: the gateway is
// asked again at once. It does not block.
func (m *Mapper) Wake() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Status returns what is known now.
func (m *Mapper) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}
