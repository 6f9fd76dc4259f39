package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/internal/logkey"
	"nexd/localapi"
	"nexd/proxy"
	"nexd/rules"
	"nexd/state"
)

// leaveTimeout bounds the goodbye of an ephemeral device.
const leaveTimeout = 3 * time.Second

// flushTimeout is how long the end waits at least for peers to acknowledge what
// was sent before it; the rest of the drain timeout counts, too.
const flushTimeout = time.Second

// UsageError is a node that cannot run as it was asked to: a flag, a key or a
// rule is wrong. Hint says what to write instead.
type UsageError struct {
	Message string
	Hint    string
}

func (e *UsageError) Error() string { return e.Message }

// Node is one member of the mesh. Make it with [New], run it once with
// [Node.Run]; the other methods are safe at any time in between.
type Node struct {
	cfg    Config
	log    *slog.Logger
	store  *state.Store
	client *controlclient.Client
	regKey controlapi.RegKey // zero: none was given
	pin    controlapi.Pin    // of the service's certificate; empty: none

	roster  roster
	relays  relayBook
	book    *rulebook
	changed notifier

	// turn holds a token while one change of the rules goes all its way: book,
	// disk, engine. Otherwise an older list could reach the engine last.
	turn chan struct{}

	mu sync.Mutex
	// mu guards the fields below.
	life       lifecycle
	credential string        // towards the service; empty: not a member
	plane      *plane        // nil until the device is a member
	engine     *proxy.Engine // nil until then, too
	ruled      bool          // the engine has the rules
}

// New reads the state directory and checks what it can without the network. It
// starts nothing, but holds the state directory's lock until Run or Close ends.
func New(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &UsageError{Message: err.Error()}
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.LogLevel == nil {
		cfg.LogLevel = new(slog.LevelVar)
	}
	n := &Node{cfg: cfg, log: cfg.Log, turn: make(chan struct{}, 1)}
	n.life = lifecycle{state: localapi.StateStarting}
	if cfg.Ephemeral {
		n.store = state.Memory()
	} else {
		if err := firstStart(cfg); err != nil {
			return nil, err
		}
		store, err := state.Open(cfg.StateDir, cfg.Log)
		if err != nil {
			return nil, err
		}
		n.store = store
	}
	if err := n.prepare(); err != nil {
		_ = n.store.Close() // a disk it cannot write to is what err says already
		return nil, err
	}
	return n, nil
}

// Close releases a node that never ran.
func (n *Node) Close() error { n.client.Close(); return n.store.Close() }

// Run is the node's life. It joins where needed, carries traffic, and ends
// when ctx does: connections get the drain timeout, then everything is closed.
// It returns nil for such an end, a *UsageError when the service refused the
// device's first join, and another error where the node could not start.
func (n *Node) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, notKept("keep the state of this device", n.store.Close())) }()

	// The lower parts outlive ctx: connections drain over them. A part that
	// ends early, which none should, ends base and with it everything.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	tasks, base := errgroup.WithContext(base)
	var pl *plane
	defer func() {
		stop()
		if werr := tasks.Wait(); err == nil {
			err = werr
		}
		n.leave() // after the stream: its end would look like an expulsion
		if pl != nil {
			pl.close()
		}
		n.client.Close()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(base, cancel)()

	if err := n.startAPI(base, tasks); err != nil {
		return err
	}
	// The port before the join: a registration key is not spent on a start
	// that cannot go on.
	if pl, err = n.openPlane(); err != nil {
		return err
	}
	if n.token() == "" {
		if err := n.join(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	pl.start(base, tasks)
	engine := proxy.New(proxy.Config{
		Mesh: mesh{pl.stack}, Directory: &n.roster, Log: n.log,
		DrainTimeout: n.cfg.DrainTimeout, OnChange: n.changed.notify,
	})
	n.mu.Lock()
	n.plane, n.engine = pl, engine
	n.mu.Unlock()
	n.applyMap(n.roster.current())
	tasks.Go(func() error { return n.follow(base) })
	tasks.Go(func() error { return n.publishHomes(base) })
	n.awaitMap(ctx)
	n.turn <- struct{}{}
	engine.Apply(n.book.rules())
	n.mu.Lock()
	n.ruled = true
	n.mu.Unlock()
	<-n.turn
	n.changed.notify()

	n.log.Info("node is up", logkey.Device, n.roster.current().Self.Name, "addresses", n.roster.Addresses(), logkey.Port, pl.bind.Port())
	drainBy := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() {
		drainBy <- time.Now().Add(n.cfg.DrainTimeout)
		n.setState(localapi.StateDraining)
	})
	if err := engine.Run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("run proxy: %w", err)
	}
	// The streams are closed; what a slow reader has not taken yet still needs
	// the tunnel.
	flush, done := context.WithTimeout(base, max(time.Until(<-drainBy), flushTimeout))
	defer done()
	pl.stack.Flush(flush)
	return nil
}

// mapPatience is how long a device that has just joined waits for its first map
// before its rules begin.
const mapPatience = 2 * time.Second

// awaitMap returns when the members are known, or cannot be for now: a rule that
// began before would ask DNS for the name of a device.
func (n *Node) awaitMap(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, mapPatience)
	defer cancel()
	for {
		changed := n.changed.wait()
		n.mu.Lock()
		failed := !n.life.connected && n.life.err != nil || n.life.expelled
		n.mu.Unlock()
		if failed || n.roster.current().Epoch != "" {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// keepService remembers the service for starts without flags, once it has
// proved to be the right one.
func (n *Node) keepService() {
	data := n.store.Data()
	url := n.client.URL()
	if data.ServiceURL == url && data.Pin == n.pin && data.Ephemeral == n.cfg.Ephemeral {
		return
	}
	err := n.store.Update(func(d *state.Data) { d.ServiceURL, d.Pin, d.Ephemeral = url, n.pin, n.cfg.Ephemeral })
	if err != nil {
		n.log.Warn("remember the service", logkey.URL, url, logkey.Err, err)
	}
}

// token is the device's credential towards the service.
func (n *Node) token() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.credential
}

// joined notes that the device is a member, with this credential.
func (n *Node) joined(credential string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.credential, n.life.expelled = credential, false
}

// leave takes an ephemeral device out of the mesh, if it ever was in it.
func (n *Node) leave() {
	m := n.roster.current()
	ephemeral := n.cfg.Ephemeral || m != nil && m.Self.Ephemeral
	if !ephemeral || n.token() == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := n.client.Leave(ctx, n.token()); err != nil {
		n.log.Warn("leave the mesh: the service will do it when the device's lease ends", logkey.Err, err)
		return
	}
	if err := n.store.Update(func(d *state.Data) { d.Credential, d.Map = "", nil }); err != nil {
		n.log.Warn("forget the void credential", logkey.Err, err)
	}
}

// Reload takes new declared rules, as after SIGHUP. An error changes nothing.
func (n *Node) Reload(declared []rules.Spec) error {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if err := n.book.redeclare(declared, n.store.Data()); err != nil {
		return err
	}
	n.applyRules()
	return nil
}

// applyRules hands the present rules to the engine, once there is one. The
// caller has the turn.
func (n *Node) applyRules() {
	n.mu.Lock()
	engine, ruled := n.engine, n.ruled
	n.mu.Unlock()
	if ruled {
		engine.Apply(n.book.rules())
	}
	n.changed.notify()
}

// deviceName is the name to ask for and what to do when it is taken.
func (n *Node) deviceName() (name, onTaken string) {
	name, onTaken = n.cfg.Hostname, n.cfg.OnNameTaken
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			n.log.Warn("read the host name", logkey.Err, err)
		}
		if name = controlapi.CleanName(host); name == "" || name == "localhost" {
			name = "device"
		}
		if onTaken == "" {
			onTaken = controlapi.NameNumber
		}
	}
	if onTaken == "" {
		onTaken = controlapi.NameRefuse
	}
	return name, onTaken
}

// ruleUsage turns an error of the rules into one for the person who wrote them.
func ruleUsage(err error) error {
	var re *rules.Error
	if errors.As(err, &re) {
		return &UsageError{Message: re.Message(), Hint: re.Hint}
	}
	return err
}
