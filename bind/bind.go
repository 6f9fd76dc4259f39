package bind

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
	"nexd/key"
)

// endpointPrefix begins the text of a peer's [Endpoint]; the key in
// hexadecimal follows.
const endpointPrefix = "peer:"

var _ conn.Bind = (*Bind)(nil)

// Config says where a [Bind] listens and who hears of what arrives.
type Config struct {
	// Log takes the bind's lines; nil discards them.
	Log *slog.Logger
	// Port is the UDP port to listen on, for IPv4 and IPv6; 0 takes a free one.
	Port uint16
	// OnSTUN gets each STUN message; from is the address of a relay
	// (relaypath.Addr) when one carried it. It is called by the receiving
	// goroutine: it must not block, and pkt is only valid until it returns. Nil
	// drops them.
	OnSTUN func(pkt []byte, from netip.AddrPort)
	// OnNoPath is called when WireGuard had something for a peer without a
	// path, perhaps many times a second. It must not block and must not call
	// the tunnel. Nil is allowed.
	OnNoPath func(peer key.Public)
	// Relays carries packets through relays; nil: there are none.
	Relays Relays
	// OnOffer gets each sealed offer that came through a relay; sealed is only
	// valid until it returns, and it must not block. Nil drops them.
	OnOffer func(relay uint16, peer key.Public, sealed []byte)
	// OnHeard is called when WireGuard packets have come from an address of a
	// peer's route, or from the peer through any relay, before WireGuard gets
	// them, once for each run of them in a batch. Whoever configures peers lazily can configure this one now and
	// lose nothing. It must be quick as a rule. The packets are not
	// authenticated yet, so it may cost no more than that. Nil is allowed.
	OnHeard func(peer key.Public)
}

// Bind is the socket. It implements wireguard-go's conn.Bind, whose Open,
// Close, SetMark, Send, ParseEndpoint and BatchSize are for the device; the
// other methods are ours. All methods are safe for concurrent use. Routes
// outlive a Close and the next Open.
type Bind struct {
	cfg   Config
	log   *slog.Logger
	inner conn.Bind
	epoch time.Time // times are kept as the monotonic distance from here
	count counters
	table atomic.Pointer[table] // address of a route to peer; replaced, never changed

	repeats repeats
	seen    seen
	ring    *ring
	extras  extras
	raw     ways // where WriteUDP writes to
	whole   whole

	open atomic.Bool
	port atomic.Uint32 // of the socket as last opened; 0 before

	life    sync.Mutex // serialises Open and Close
	stop    chan struct{}
	checked bool // the socket buffers have been looked at

	mu     sync.RWMutex // guards the fields below
	wanted uint16
	peers  map[key.Public]*Endpoint
}

// New makes a Bind; the device opens it.
func New(cfg Config) *Bind {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return newBind(cfg, socketsFor(cfg.Log))
}

func newBind(cfg Config, inner conn.Bind) *Bind {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnSTUN == nil {
		cfg.OnSTUN = func([]byte, netip.AddrPort) {}
	}
	if cfg.OnOffer == nil {
		cfg.OnOffer = func(uint16, key.Public, []byte) {}
	}
	if cfg.OnNoPath == nil {
		cfg.OnNoPath = func(key.Public) {}
	}
	if cfg.OnHeard == nil {
		cfg.OnHeard = func(key.Public) {}
	}
	b := &Bind{
		cfg:    cfg,
		log:    cfg.Log,
		inner:  inner,
		epoch:  time.Now(),
		wanted: cfg.Port,
		ring:   newRing(),
		peers:  make(map[key.Public]*Endpoint),
	}
	b.repeats = repeats{send: b.repeat, since: b.since, byIndex: make(map[uint32]*handshake), closed: true}
	b.extras.closed = true
	b.table.Store(&table{})
	return b
}

// SetPort changes the port the next Open takes: after a [*PortError] the
// caller may choose 0, a free port.
func (b *Bind) SetPort(port uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted = port
	b.port.Store(0)
}

// Port returns the port of the socket, or 0 before the first Open.
func (b *Bind) Port() uint16 { return uint16(b.port.Load()) }

// Open listens on the same port for IPv4 and IPv6. Port 0 means the port it
// had before, else that of [Config.Port]. A port that cannot be had is a
// [*PortError].
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.life.Lock()
	defer b.life.Unlock()
	if b.open.Load() {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if port == 0 {
		port = b.remembered()
	}
	inner, actual, err := b.inner.Open(port)
	if err != nil {
		return nil, 0, portError(port, err)
	}
	b.stop = make(chan struct{})
	fns := make([]conn.ReceiveFunc, 0, len(inner)+1)
	for _, fn := range inner {
		r := &receiver{bind: b, inner: fn, stop: b.stop, relayed: relayUDP}
		fns = append(fns, r.receive)
	}
	fns = append(fns, (&receiver{bind: b, stop: b.stop, relayed: relayTLS}).receiveRing)
	b.repeats.open()
	b.extras.open()
	b.port.Store(uint32(actual))
	b.open.Store(true)
	if !b.checked {
		b.checked = true
		b.checkBuffers()
	}
	b.log.Debug("udp socket open", logkey.Port, actual)
	return fns, actual, nil
}

func (b *Bind) remembered() uint16 {
	if p := b.Port(); p != 0 {
		return p
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.wanted
}

// Close closes the socket and all extra ones, and ends repeats: blocked
// receives return net.ErrClosed, and so do sends until the next Open. Routes stay.
func (b *Bind) Close() error {
	b.life.Lock()
	defer b.life.Unlock()
	if b.open.Swap(false) {
		close(b.stop)
	}
	b.repeats.close()
	gone := b.extras.close()
	err := b.inner.Close() // now nothing blocks in a send
	for _, x := range gone {
		x.wait()
	}
	b.repeats.running.Wait()
	b.ring.clear()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close udp socket: %w", err)
	}
	return nil
}

// SetMark marks the socket's packets for policy routing (Linux: SO_MARK).
func (b *Bind) SetMark(mark uint32) error { return b.inner.SetMark(mark) }

// BatchSize is the number of packets one receive or send may carry.
func (b *Bind) BatchSize() int { return b.inner.BatchSize() }

// ParseEndpoint takes "peer:" and a public key in hexadecimal, the endpoint
// whose path we choose, or IP:PORT, a plain WireGuard peer.
func (b *Bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	if hexKey, ok := strings.CutPrefix(s, endpointPrefix); ok {
		peer, err := parseHex(hexKey)
		if err != nil {
			return nil, err
		}
		return b.endpoint(peer), nil
	}
	addr, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, fmt.Errorf("parse endpoint: %w", err)
	}
	return &conn.StdNetEndpoint{AddrPort: unmap(addr)}, nil
}

// since returns the present moment in nanoseconds after b.epoch, never 0.
func (b *Bind) since() int64 { return 1 + int64(time.Since(b.epoch)) }

// moment is the inverse of since; 0 is the zero time.
func (b *Bind) moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return b.epoch.Add(time.Duration(nanos - 1))
}

// unmap turns an IPv4 address in IPv6 clothes (::ffff:a.b.c.d) back: the IPv6
// socket does not carry them.
func unmap(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Is4In6() {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return a
}
