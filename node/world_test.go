package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/control"
	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/localapi"
	"nexd/rules"
	"nexd/test/need"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// world is a control service on loopback that tests stop and start again.
type world struct {
	t     *testing.T
	dir   string
	addr  string // of the HTTPS listener; the same after a restart, and nobody is given its port meanwhile
	admin *controlclient.Admin
	down  func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), addr: fmt.Sprintf("127.0.0.1:%d", need.Port(t)), down: func() {}}
	w.up()
	file, err := controlclient.ReadAdminFile(filepath.Join(w.dir, "admin.json"))
	if err != nil {
		t.Fatal(err)
	}
	if w.admin, err = controlclient.NewAdmin(file, controlclient.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.admin.Close()
		w.down()
	})
	return w
}

// up starts the service with the state it had.
func (w *world) up() {
	w.t.Helper()
	fast := control.Rate{PerSecond: 1e6, Burst: 1e6}
	svc, err := control.New(control.Config{
		Listen: w.addr, STUNListen: "127.0.0.1:0", StateDir: w.dir, Log: logger(w.t, "service"),
		JoinRate: fast, JoinRateAll: fast,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	w.down = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("service: %v", err)
		}
		w.down = func() {}
	}
	<-svc.Ready()
}

// key makes a registration key.
func (w *world) key(req controlapi.RegKeyRequest) string {
	w.t.Helper()
	k, err := w.admin.CreateRegKey(w.t.Context(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return k.Key
}

// names lists the devices the service knows.
func (w *world) names() string {
	w.t.Helper()
	list, err := w.admin.Devices(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		out = append(out, d.Name)
	}
	return strings.Join(out, " ")
}

// member is a node under test. Its state outlives its runs.
type member struct {
	t      *testing.T
	cfg    Config
	n      *Node
	api    *localapi.Client
	cancel context.CancelFunc
	done   chan struct{} // closed when Run returned err
	err    error
}

// member describes a node that is not started. It offers only 127.0.0.1.
func (w *world) member(name string, change ...func(*Config)) *member {
	w.t.Helper()
	m := &member{t: w.t, cfg: Config{
		RegKey: w.key(controlapi.RegKeyRequest{}), Hostname: name, StateDir: w.t.TempDir(),
		UnixSocket: filepath.Join(shortDir(w.t), "s"), LocalEndpointIP: netip.MustParseAddr("127.0.0.1"),
		Log: logger(w.t, name),
	}}
	for _, f := range change {
		f(&m.cfg)
	}
	m.api = localapi.NewClient(m.cfg.UnixSocket)
	return m
}

// join starts a node and waits until it runs.
func (w *world) join(name string, change ...func(*Config)) *member {
	w.t.Helper()
	m := w.member(name, change...)
	m.start()
	m.await("running", isRunning)
	return m
}

// start runs the node as configured until stop or the test's end.
func (m *member) start() {
	m.t.Helper()
	n, err := New(m.cfg)
	if err != nil {
		m.t.Fatalf("%s: %v", m.cfg.Hostname, err)
	}
	m.run(n)
}

func (m *member) run(n *Node) {
	ctx, cancel := context.WithCancel(context.Background())
	m.n, m.cancel, m.done = n, cancel, make(chan struct{})
	done := m.done
	go func() {
		m.err = n.Run(ctx)
		close(done)
	}()
	m.t.Cleanup(func() { cancel(); <-done })
}

// stop ends the run as SIGTERM does.
func (m *member) stop() {
	m.t.Helper()
	m.cancel()
	if err := m.ended(); err != nil {
		m.t.Fatalf("%s: Run = %v", m.cfg.Hostname, err)
	}
}

// ended waits for the end of Run and returns its error.
func (m *member) ended() error {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(patience):
		m.t.Fatalf("%s does not end", m.cfg.Hostname)
	}
	return m.err
}

// refused starts a node that has to end with a *UsageError that helps.
func (m *member) refused() *UsageError {
	m.t.Helper()
	m.start()
	err := m.ended()
	usage := (*UsageError)(nil)
	if !errors.As(err, &usage) {
		m.t.Fatalf("%s: Run = %v, want a *UsageError", m.cfg.Hostname, err)
	}
	if usage.Message == "" || usage.Hint == "" {
		m.t.Errorf("%s: message %q, hint %q: want both", m.cfg.Hostname, usage.Message, usage.Hint)
	}
	return usage
}

// await waits until the status is as wanted.
func (m *member) await(what string, ok func(localapi.Status) bool) localapi.Status {
	m.t.Helper()
	late := time.After(patience)
	for {
		changed := m.n.Changed()
		st := m.n.Status()
		if ok(st) {
			return st
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond): // counters change without a word
		case <-m.done:
			m.t.Fatalf("%s ended while waiting until it is %s: %v", m.cfg.Hostname, what, m.err)
		case <-late:
			m.t.Fatalf("%s is not %s: %+v", m.cfg.Hostname, what, st)
		}
	}
}

// knows waits until the node has exactly these peers.
func (m *member) knows(names ...string) localapi.Status {
	m.t.Helper()
	return m.await("acquainted with "+strings.Join(names, " "), func(st localapi.Status) bool {
		return peerNames(st) == strings.Join(names, " ")
	})
}

func (m *member) address() netip.Addr { return m.n.roster.Addresses()[0] }

func isRunning(st localapi.Status) bool { return st.State == localapi.StateRunning && st.Ready }
func isOffline(st localapi.Status) bool {
	return st.State == localapi.StateOffline && st.Ready && !st.Service.Connected
}

func isExpelled(st localapi.Status) bool {
	return !st.Ready && strings.Contains(strings.Join(st.Reasons, " "), "no longer knows this device")
}

func peerNames(st localapi.Status) string {
	var out []string
	for _, p := range st.Peers {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func ingress(t *testing.T, s string) rules.Spec { t.Helper(); return spec(t, rules.Ingress, s) }
func egress(t *testing.T, s string) rules.Spec  { t.Helper(); return spec(t, rules.Egress, s) }

func spec(t *testing.T, d rules.Direction, s string) rules.Spec {
	t.Helper()
	r, err := rules.Parse(d, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func withRules(specs ...rules.Spec) func(*Config) { return func(c *Config) { c.Rules = specs } }

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// logger writes to the test's log under -v, until the test ends.
func logger(t *testing.T, who string) *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	l := &testLog{t: t}
	t.Cleanup(l.end)
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", who)
}

// testLog is a test's log that may be written to after the test: WireGuard's
// goroutines say that they end when nobody waits for them any more.
type testLog struct {
	mu sync.Mutex // guards t
	t  *testing.T // nil: it has ended
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		l.t.Logf("%s", bytes.TrimSpace(b))
	}
	return len(b), nil
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = nil
}

func portOf(s rules.Spec) uint16 { return s.Rules()[0].Port }

// testRegKey is a well-formed key of a service that does not exist.
const testRegKey = "https://service.invalid:8443#secret"
