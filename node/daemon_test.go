package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/need"
)

// The daemon's socket: what nexctl asks a running node.
func TestDaemonSocket(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx, api := t.Context(), p.client.api
	wait := func(what string) {
		t.Helper()
		cond, err := localapi.ParseCondition(what)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.Wait(ctx, cond, patience); err != nil {
			t.Fatalf("wait for %s: %v", what, err)
		}
	}
	wait("ready")
	for _, name := range []string{"server", p.server.address().String(), p.server.n.Status().Device.ID, "server.nexd.internal"} {
		res, err := api.Ping(ctx, name, 10*time.Second)
		if err != nil || res.Peer != "server" || res.Address != p.server.address() || res.Millis <= 0 {
			t.Errorf("ping %s = %+v, %v", name, res, err)
		}
	}
	wait("direct:server")
	st, err := api.Status(ctx)
	if err != nil || st.State != localapi.StateRunning || peerNames(st) != "server" {
		t.Errorf("status %+v, %v", st, err)
	}
	wrong := (*localapi.UserError)(nil)
	if _, err := api.Ping(ctx, "nobody", 0); !errors.As(err, &wrong) || wrong.Hint == "" {
		t.Errorf("ping of nobody: %v", err)
	}
	if err := api.SetLogLevel(ctx, "debug"); err != nil {
		t.Fatal(err)
	}
	if level, err := api.LogLevel(ctx); level != "debug" || err != nil {
		t.Errorf("log level %q, %v", level, err)
	}
	if err := api.SetLogLevel(ctx, "loud"); !errors.As(err, &wrong) {
		t.Errorf("log level loud: %v", err)
	}
	for level, name := range map[slog.Level]string{slog.LevelInfo: "info", slog.LevelWarn: "warn", slog.LevelError: "error"} {
		if err := p.client.n.SetLogLevel(name); err != nil || p.client.n.LogLevel() != name || p.client.n.cfg.LogLevel.Level() != level {
			t.Errorf("level %s: %v", name, err)
		}
	}
}

// Rules change at once and stay changed over restarts.
func TestRulesAtRunTime(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx, api := t.Context(), p.client.api
	held := connect(t, p.tcp)
	exchange(t, held, "before")

	more := need.Port(t)
	added := egress(t, fmt.Sprintf("tcp:%d:server:80", more))
	list, err := api.ChangeRules(ctx, specs(added), nil)
	if err != nil || len(list) != 3 {
		t.Fatalf("rules %+v, %v", list, err)
	}
	converse(t, more, 1000)
	exchange(t, held, "a rule that did not change keeps its connections")

	declared := p.client.cfg.Rules[1] // udp
	if _, err := api.ChangeRules(ctx, nil, specs(declared)); err != nil {
		t.Fatal(err)
	}
	refused := (*localapi.UserError)(nil)
	if _, err := api.ChangeRules(ctx, nil, specs(declared)); !errors.As(err, &refused) {
		t.Errorf("removing it again: %v", err)
	}
	if _, err := api.ChangeRules(ctx, specs(added), nil); !errors.As(err, &refused) {
		t.Errorf("adding it again: %v", err)
	}
	held.Close()

	p.client.stop()
	p.client.start()
	st := p.client.await("running", isRunning)
	if len(st.Rules) != 2 || st.Rules[0].Rule != p.client.cfg.Rules[0].String() || st.Rules[1].Rule != added.String() {
		t.Errorf("rules after a restart: %+v", st.Rules)
	}
	converse(t, more, 1000)
}

// A change that cannot be kept is refused whole, and does not come back later.
func TestRulesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.join("stuck", withRules(ingress(t, "tcp:80:127.0.0.1:8080")))
	free := blockWrites(t, m.cfg.StateDir)
	if _, err := m.api.ChangeRules(t.Context(), specs(ingress(t, "tcp:81:127.0.0.1:8081")), nil); err == nil {
		t.Fatal("a rule was added that cannot be kept")
	} else if !strings.HasPrefix(err.Error(), "nothing was changed") || strings.Contains(err.Error(), "kept in memory") {
		t.Errorf("it says %q", err)
	}
	if st := m.n.Status(); len(st.Rules) != 1 || !st.Ready {
		t.Errorf("after a refused change: %+v", st)
	}
	free()
	added := ingress(t, "tcp:82:127.0.0.1:8082")
	if _, err := m.api.ChangeRules(t.Context(), specs(added), nil); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.start()
	st := m.await("running", isRunning)
	if len(st.Rules) != 2 || st.Rules[1].Rule != added.String() {
		t.Errorf("after a restart: %+v", st.Rules)
	}
}

// blockWrites makes the state file unwritable, also for root, until free is called.
func blockWrites(t *testing.T, dir string) (free func()) {
	t.Helper()
	inTheWay := filepath.Join(dir, "state.json.new")
	if err := os.MkdirAll(filepath.Join(inTheWay, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(inTheWay); err != nil {
			t.Fatal(err)
		}
	}
}

// A reload takes the declared rules anew and keeps what nexctl changed.
func TestReload(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	held := connect(t, p.tcp)
	exchange(t, held, "before")
	added := egress(t, fmt.Sprintf("tcp:%d:server:80", need.Port(t)))
	if _, err := p.client.api.ChangeRules(t.Context(), specs(added), nil); err != nil {
		t.Fatal(err)
	}
	kept, fresh := p.client.cfg.Rules[0], egress(t, fmt.Sprintf("tcp:%d:server:80", need.Port(t)))
	if err := p.client.n.Reload(specs(kept, kept)); err == nil {
		t.Error("a reload with an error succeeds")
	}
	if st := p.client.n.Status(); len(st.Rules) != 3 {
		t.Errorf("a refused reload changed the rules: %+v", st.Rules)
	}
	if err := p.client.n.Reload(specs(kept, fresh)); err != nil {
		t.Fatal(err)
	}
	st := p.client.await("ready", func(st localapi.Status) bool { return st.Ready })
	if len(st.Rules) != 3 || st.Rules[0].Rule != kept.String() || st.Rules[1].Rule != fresh.String() || st.Rules[2].Rule != added.String() {
		t.Errorf("rules after the reload: %+v", st.Rules)
	}
	exchange(t, held, "a rule that did not change keeps its connections")
	converse(t, portOf(fresh), 1000)
	converse(t, portOf(added), 1000)
}

// Changes at the same time end in one list, the engine's.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.join("busy")
	const many = 8
	errs := make(chan error, 2*many)
	for i := range many {
		go func() {
			errs <- m.n.ChangeRules(t.Context(), specs(ingress(t, fmt.Sprintf("tcp:%d:127.0.0.1:80", 1000+i))), nil)
		}()
		go func() { errs <- m.n.Reload(specs(web(t))) }()
	}
	for range 2 * many {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := len(m.n.Status().Rules); got != many+1 {
		t.Errorf("the engine has %d rules, want %d", got, many+1)
	}
	if got := len(m.n.store.Data().Rules); got != many {
		t.Errorf("%d rules are stored, want %d", got, many)
	}
}
