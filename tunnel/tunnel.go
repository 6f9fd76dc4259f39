package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"nexd/key"
)

// DefaultIdle is how long a member stays configured without data.
const DefaultIdle = 15 * time.Minute

// patience bounds how long a packet or a caller waits for WireGuard to be told
// of a peer. It takes well under a millisecond unless WireGuard is stuck, and
// then the one packet is lost rather than all of them.
const patience = 500 * time.Millisecond

// Config is what a [Tunnel] is made of.
type Config struct {
	// Private is this device's key.
	Private key.Private
	// Device is where the packets of the mesh come from and go to. The tunnel
	// owns it: Close closes it. Its Close must make a blocked Read return, and
	// its Write is called by several goroutines.
	Device tun.Device
	// Bind carries the encrypted datagrams. The tunnel opens and closes it.
	Bind conn.Bind
	// Log takes the tunnel's and WireGuard's lines; nil discards them.
	Log *slog.Logger
	// OnActivate and OnDeactivate are called when WireGuard was told of a
	// member or told to forget it. They must not block and must not call
	// SetPeers or Close. Nil is allowed.
	OnActivate, OnDeactivate func(key.Public)
	// IdleTimeout is how long a member stays active without data in either
	// direction; 0 means DefaultIdle.
	IdleTimeout time.Duration
}

// Peer is one member of the mesh.
type Peer struct {
	Key key.Public
	// Addresses are those inside the mesh: packets to them go to this peer,
	// packets from it must have one of them as source.
	Addresses []netip.Addr
	// Endpoint is the address of a plain WireGuard peer; invalid for members,
	// whose path the Bind chooses.
	Endpoint netip.AddrPort
}

// Tunnel is this node's end of the mesh. All methods are safe for concurrent use.
type Tunnel struct {
	cfg   Config
	log   *slog.Logger
	own   key.Public
	epoch time.Time // times are kept as the monotonic distance from here
	gate  *gate
	count counters
	table atomic.Pointer[table]
	setMu sync.Mutex // serialises SetPeers

	running  atomic.Bool
	requests chan request  // to the owner
	answers  chan []byte   // ICMP messages to the Device; full: dropped
	allowed  *rate.Limiter // of those
	closing  chan struct{} // closed when Close begins
	done     chan struct{} // closed when the tunnel has ended
	tasks    sync.WaitGroup

	dev     atomic.Pointer[device.Device] // set once, by the first Up
	stateMu sync.Mutex                    // guards closed, and serialises Up, Rebind and Close
	closed  bool

	statsMu sync.Mutex // guards the fields below
	stats   map[key.Public]PeerStats
	statsAt time.Time
}

// New checks the configuration. It starts nothing: [Tunnel.Up] does. Close the
// tunnel even if Up is never called.
func New(cfg Config) (*Tunnel, error) {
	if cfg.Private.IsZero() {
		return nil, fmt.Errorf("new tunnel: private %w", key.ErrZero)
	}
	if cfg.Device == nil || cfg.Bind == nil {
		return nil, errors.New("new tunnel: no device or no bind")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = DefaultIdle
	}
	if cfg.OnActivate == nil {
		cfg.OnActivate = func(key.Public) {}
	}
	if cfg.OnDeactivate == nil {
		cfg.OnDeactivate = func(key.Public) {}
	}
	t := &Tunnel{
		cfg:      cfg,
		log:      cfg.Log,
		own:      cfg.Private.Public(),
		epoch:    time.Now(),
		requests: make(chan request),
		answers:  make(chan []byte, answerQueue),
		allowed:  rate.NewLimiter(answerRate, answerRate),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	t.gate = &gate{Device: cfg.Device, tunnel: t, events: make(chan tun.Event)}
	t.table.Store(newTable(0))
	return t, nil
}

// Up opens the socket and lets packets flow. It may be called again after an
// error, such as a port in use, and does nothing when the tunnel is up. After
// Close it returns net.ErrClosed.
func (t *Tunnel) Up() error {
	t.stateMu.Lock()
	defer t.stateMu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	if t.dev.Load() == nil {
		if err := t.startLocked(); err != nil {
			return fmt.Errorf("start tunnel: %w", err)
		}
	}
	if err := t.dev.Load().Up(); err != nil {
		return fmt.Errorf("bring tunnel up: %w", err)
	}
	return nil
}

func (t *Tunnel) startLocked() error {
	dev := device.NewDevice(t.gate, t.cfg.Bind, newLogger(t.log))
	t.dev.Store(dev)
	t.tasks.Go(t.gate.forwardEvents)
	dev.DisableSomeRoamingForBrokenMobileSemantics()
	if err := dev.IpcSet("private_key=" + t.cfg.Private.RevealHex() + "\n"); err != nil {
		t.closed = true
		close(t.closing)
		dev.Close()
		close(t.done)
		return err
	}
	o := newOwner(t, dev)
	t.tasks.Go(func() { o.run(); close(t.done) })
	t.tasks.Go(func() { t.answer(dev.Wait()) })
	t.running.Store(true)
	return nil
}

// Rebind opens the socket anew on the same port, after the host's network has
// changed. Sessions and paths stay.
func (t *Tunnel) Rebind() error {
	t.stateMu.Lock()
	defer t.stateMu.Unlock()
	dev := t.dev.Load()
	if t.closed || dev == nil {
		return net.ErrClosed
	}
	if err := dev.BindUpdate(); err != nil {
		return fmt.Errorf("rebind: %w", err)
	}
	return nil
}

// Close ends the tunnel, closes the Device and the Bind and waits for every
// goroutine. Calling it again does nothing.
func (t *Tunnel) Close() error {
	t.stateMu.Lock()
	defer t.stateMu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	close(t.closing) // first: who waits for the owner must let device.Close pass
	dev := t.dev.Load()
	if dev == nil {
		close(t.done)
		return errors.Join(t.cfg.Device.Close(), t.cfg.Bind.Close())
	}
	dev.Close()
	t.tasks.Wait()
	return nil
}

// Done returns a channel that is closed when the tunnel has ended: by Close,
// or by itself because the Device was closed or could not be read.
func (t *Tunnel) Done() <-chan struct{} { return t.done }

// SetPeers replaces the table of members. Members that left or changed their
// key are gone from WireGuard when it returns; new addresses apply without
// disturbing the session. Of two members with the same address the first
// keeps it. It keeps none of the slices.
func (t *Tunnel) SetPeers(peers []Peer) {
	t.setMu.Lock()
	next := buildTable(peers, t.table.Load(), t.own, t.log)
	t.table.Store(next)
	t.setMu.Unlock()
	if t.running.Load() {
		t.ask(request{}, nil)
	}
}

// Activate tells WireGuard of a member that was heard of: a verified check or
// an offer arrived. Call it before answering, so that the peer's handshake
// finds us ready. It returns at once for an active or unknown member, and
// otherwise as soon as WireGuard knows it. A member that does not shake hands
// within a second of it is sent a handshake.
func (t *Tunnel) Activate(peer key.Public) {
	m := t.table.Load().byKey[peer]
	if m == nil || m.life.active.Load() || !t.running.Load() {
		return
	}
	t.askSoon(request{members: []*member{m}, inbound: true})
}

// LastData returns when authenticated data of a peer last came out of the
// tunnel; zero for never. Keepalives and handshakes are not data.
func (t *Tunnel) LastData(peer key.Public) time.Time {
	m := t.table.Load().byKey[peer]
	if m == nil {
		return time.Time{}
	}
	return t.moment(m.life.lastIn.Load())
}

// since returns the present moment in nanoseconds after t.epoch, never 0.
func (t *Tunnel) since() int64 { return max(1, int64(time.Since(t.epoch))) }

// moment is the inverse of since; 0 is the zero time.
func (t *Tunnel) moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return t.epoch.Add(time.Duration(nanos))
}
