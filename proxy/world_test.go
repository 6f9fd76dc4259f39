package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
	"nexd/proxy"
	"nexd/rules"
	"nexd/test/need"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// gVisor starts these once per process and never ends them.
		goleak.IgnoreAnyFunction("gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*processor).start"),
		goleak.IgnoreAnyFunction("gvisor.dev/gvisor/pkg/sync.Gopark"))
}

// patience bounds every wait for something that happens. It only has to be less
// than for ever: a user-space stack under the race detector on a busy machine is slow.
const patience = time.Minute

// loopbackMesh is a mesh whose addresses are loopback addresses of this host.
type loopbackMesh struct{ own netip.Addr }

func (m loopbackMesh) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	return net.Listen("tcp", at.String())
}

func (m loopbackMesh) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: m.own.AsSlice()}}
	return d.DialContext(ctx, "tcp", to.String())
}

func (m loopbackMesh) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	return net.ListenPacket("udp", at.String())
}

func (m loopbackMesh) DialUDP(to netip.AddrPort) (net.Conn, error) {
	return net.DialUDP("udp", &net.UDPAddr{IP: m.own.AsSlice()}, net.UDPAddrFromAddrPort(to))
}

// stackMesh is a real stack.
type stackMesh struct{ *netstack.Stack }

func (m stackMesh) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := m.Stack.DialTCP(ctx, to)
	if err != nil {
		return nil, err
	}
	return c, nil
}

type member struct {
	name  string
	tags  []string
	addrs []netip.Addr
}

// directory knows two devices and more.
type directory struct {
	mu      sync.Mutex
	own     []netip.Addr
	members []member
}

func (d *directory) Addresses() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.own
}

func (d *directory) setOwn(addrs ...netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own = addrs
}

func (d *directory) add(m member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.members = append(d.members, m)
}

func (d *directory) Resolve(name string) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.members {
		if name == m.name || name == m.name+".nexd.internal" {
			return m.addrs
		}
	}
	return nil
}

func (d *directory) Who(a netip.Addr) (string, []string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.members {
		for _, addr := range m.addrs {
			if addr == a {
				return m.name, m.tags, true
			}
		}
	}
	return "", nil, false
}

// world is this device ("me"), whose engine is under test, and another ("db").
type world struct {
	t          *testing.T
	name       string
	mesh, peer proxy.Mesh
	own, other []netip.Addr
	dir        *directory
	engine     *proxy.Engine
	changed    chan struct{}
	stop       context.CancelFunc
	ended      chan struct{}
}

func loopbackWorld(t *testing.T) *world {
	own, other := netip.MustParseAddr("127.77.0.1"), netip.MustParseAddr("127.77.0.2")
	return &world{
		t: t, name: "loopback", mesh: loopbackMesh{own}, peer: loopbackMesh{other},
		own: []netip.Addr{own}, other: []netip.Addr{other},
	}
}

func stackWorld(t *testing.T) *world {
	a, b := netstacktest.Pair(t)
	return &world{
		t: t, name: "netstack", mesh: stackMesh{a}, peer: stackMesh{b},
		own:   []netip.Addr{netstacktest.A4, netstacktest.A6},
		other: []netip.Addr{netstacktest.B4, netstacktest.B6},
	}
}

var worlds = []func(*testing.T) *world{loopbackWorld, stackWorld}

// inWorlds runs a story over the fake mesh and over real stacks.
func inWorlds(t *testing.T, story func(*testing.T, *world)) {
	for _, make := range worlds {
		w := make(t)
		t.Run(w.name, func(t *testing.T) {
			w.t = t
			story(t, w)
		})
	}
}

func (w *world) start(drain time.Duration) {
	w.t.Helper()
	w.dir = &directory{own: w.own, members: []member{
		{"me", nil, w.own}, {"db", []string{"web"}, w.other},
	}}
	w.changed = make(chan struct{}, 1)
	w.engine = proxy.New(proxy.Config{
		Mesh: w.mesh, Directory: w.dir, DrainTimeout: drain,
		Log: slog.New(slog.NewTextHandler(testLog{w.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnChange: func() {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.ended = cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		if err := w.engine.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	}()
	w.t.Cleanup(func() {
		cancel()
		select {
		case <-w.ended:
		case <-time.After(2*patience + drain):
			w.t.Error("the engine does not end")
		}
	})
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) { l.t.Logf("%s", p); return len(p), nil }

// parse reads "ingress tcp:..." lines.
func parse(t *testing.T, lines ...string) []rules.Rule {
	t.Helper()
	var out []rules.Rule
	for _, line := range lines {
		var word, text string
		if _, err := fmt.Sscan(line, &word, &text); err != nil {
			t.Fatal(err)
		}
		d, err := rules.ParseDirection(word)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := rules.Parse(d, text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, spec.Rules()...)
	}
	return out
}

func (w *world) apply(lines ...string) {
	w.t.Helper()
	w.engine.Apply(parse(w.t, lines...))
	for i := range w.engine.Status() { // Run may have begun after Apply
		w.eventually(i, "tried", func(s proxy.RuleStatus) bool { return s.Error != "not started yet" })
	}
}

// status returns the status of the n-th rule.
func (w *world) status(n int) proxy.RuleStatus {
	w.t.Helper()
	s := w.engine.Status()
	if n >= len(s) {
		w.t.Fatalf("only %d rules", len(s))
	}
	return s[n]
}

// eventually polls until the n-th rule's status is as wanted.
func (w *world) eventually(n int, what string, want func(proxy.RuleStatus) bool) {
	w.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !want(w.status(n)) {
		select {
		case <-limit:
			w.t.Fatalf("never %s: %+v", what, w.status(n))
		case <-tick.C:
		}
	}
}

func (w *world) listening(n int) {
	w.t.Helper()
	w.eventually(n, "listening", func(s proxy.RuleStatus) bool { return s.State == proxy.StateListening })
}

// ends is one rule of a direction with its client and its destination.
type ends struct {
	direction string
	port      uint16 // where the rule listens
	target    string // host:port of the destination
	listen    func() (net.Listener, error)
	dial      func() (net.Conn, error)
}

// line is the rule.
func (e ends) line(options string) string {
	return fmt.Sprintf("%s tcp:%d:%s%s", e.direction, e.port, e.target, options)
}

func (w *world) ends(direction string) ends {
	w.t.Helper()
	e := ends{direction: direction, port: need.Port(w.t)}
	dest := need.Port(w.t)
	switch direction {
	case "ingress":
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), dest)
		e.target = at.String()
		e.listen = func() (net.Listener, error) { return net.Listen("tcp", at.String()) }
		e.dial = func() (net.Conn, error) {
			return w.peer.DialTCP(context.Background(), netip.AddrPortFrom(w.own[0], e.port))
		}
	case "egress":
		at := netip.AddrPortFrom(w.other[0], dest)
		e.target = at.String()
		if at.Addr().IsLoopback() { // which an egress rule does not take
			e.target = fmt.Sprintf("db:%d", dest)
		}
		e.listen = func() (net.Listener, error) { return w.peer.ListenTCP(at) }
		e.dial = func() (net.Conn, error) { return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", e.port)) }
	}
	return e
}

// bothDirections runs a story for an ingress and an egress rule in both worlds.
func bothDirections(t *testing.T, story func(*testing.T, *world, ends)) {
	inWorlds(t, func(t *testing.T, w *world) {
		w.start(time.Second)
		for _, d := range []string{"ingress", "egress"} {
			t.Run(d, func(t *testing.T) {
				w.t = t
				story(t, w, w.ends(d))
				w.engine.Apply(nil)
			})
		}
		w.t = t
	})
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// dialled dials and puts a deadline on everything.
func dialled(t testing.TB, dial func() (net.Conn, error)) net.Conn {
	t.Helper()
	c := must[net.Conn](t)(dial())
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// listened listens until the end of the test.
func listened(t testing.TB, listen func() (net.Listener, error)) net.Listener {
	t.Helper()
	ln := must[net.Listener](t)(listen())
	t.Cleanup(func() { ln.Close() })
	return ln
}

func accepted(t testing.TB, ln net.Listener) net.Conn {
	t.Helper()
	c := must[net.Conn](t)(ln.Accept())
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// noNames has this process ask a name server that knows none, on loopback.
func noNames(t *testing.T) {
	t.Helper()
	pc := must[net.PacketConn](t)(net.ListenPacket("udp", "127.0.0.1:0"))
	started := make(chan struct{})
	server := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ActivateAndServe() })
	<-started
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		_ = server.Shutdown()
		serving.Wait()
	})
}

// serve answers each connection with a function until the listener closes.
func serve(t testing.TB, ln net.Listener, handle func(net.Conn)) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func say(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

func roundTrip(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if err := trip(c, text); err != nil {
		t.Fatal(err)
	}
}

// trip has a text echoed.
func trip(c net.Conn, text string) error {
	got := make([]byte, len(text))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		return fmt.Errorf("read %q, %w; want %q", got[:n], err, text)
	}
	return nil
}

// inTime makes tries until one takes less than a limit, and ends the test if that
// one fails. The others prove nothing: the machine stood still.
func inTime(t testing.TB, limit time.Duration, try func() error) (tries int64) {
	t.Helper()
	for tries < 20 {
		tries++
		began := time.Now()
		err := try()
		if time.Since(began) >= limit {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return tries
	}
	t.Fatal("the machine is too slow to tell")
	return 0
}

// ask dials and reads the whole answer.
func ask(t testing.TB, dial func() (net.Conn, error)) (string, error) {
	t.Helper()
	c, err := dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	return string(b), err
}
