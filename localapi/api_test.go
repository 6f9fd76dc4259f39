package localapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/localapi/localapitest"
	"nexd/rules"
)

func TestRulesChangeAtOnceOrNotAtAll(t *testing.T) {
	client, _, _ := start(t, &localapitest.Daemon{})
	ctx := testContext(t)
	web := spec(t, rules.Ingress, "tcp:80:127.0.0.1:8080")
	db := spec(t, rules.Egress, "tcp:5432:db:5432")

	list, err := client.ChangeRules(ctx, []rules.Spec{web, db}, nil)
	if err != nil || len(list) != 2 {
		t.Fatalf("add two: %v, %v", list, err)
	}
	// The second of these is not there: the first must stay.
	_, err = client.ChangeRules(ctx, nil, []rules.Spec{web, spec(t, rules.Egress, "udp:53:dns:53")})
	var user *localapi.UserError
	if !errors.As(err, &user) {
		t.Fatalf("remove an unknown rule: %v, want a *UserError", err)
	}
	if list, err = client.Rules(ctx); err != nil || len(list) != 2 {
		t.Fatalf("after the refusal: %v, %v", list, err)
	}
	if list, err = client.ChangeRules(ctx, nil, []rules.Spec{web}); err != nil || len(list) != 1 {
		t.Fatalf("remove: %v, %v", list, err)
	}
	if list[0].Direction != "egress" || list[0].Rule != db.String() {
		t.Errorf("left over: %+v", list[0])
	}
}

func TestPing(t *testing.T) {
	d := &localapitest.Daemon{OnPing: func(ctx context.Context, peer string) (localapi.PingResult, error) {
		switch peer {
		case "db":
			return localapi.PingResult{Peer: "db", Address: netip.MustParseAddr("100.64.0.2"), RTT: 1500 * time.Microsecond}, nil
		case "silent":
			<-ctx.Done()
			return localapi.PingResult{}, fmt.Errorf("ping silent: %w", ctx.Err())
		}
		return localapi.PingResult{}, &localapi.UserError{Message: "who?", Hint: "look"}
	}}
	client, _, _ := start(t, d)
	ctx := testContext(t)

	r, err := client.Ping(ctx, "db", 0)
	if err != nil || r.RTT != 1500*time.Microsecond || r.Millis != 1.5 {
		t.Errorf("ping db: %+v, %v", r, err)
	}
	var problem *localapi.Problem
	if _, err = client.Ping(ctx, "silent", 10*time.Millisecond); !errors.As(err, &problem) || problem.Status != 504 {
		t.Errorf("ping silent: %v, want status 504", err)
	}
	var user *localapi.UserError
	if _, err = client.Ping(ctx, "nobody", 0); !errors.As(err, &user) || user.Hint != "look" {
		t.Errorf("ping nobody: %v, want a hint", err)
	}
	if _, err = client.Ping(ctx, "", 0); !errors.As(err, &user) {
		t.Errorf("ping without a peer: %v", err)
	}
	if _, err = client.Ping(ctx, "db", time.Hour); !errors.As(err, &user) {
		t.Errorf("ping for an hour: %v", err)
	}
}

func TestLogLevelAndVersion(t *testing.T) {
	client, _, _ := start(t, &localapitest.Daemon{})
	ctx := testContext(t)
	if err := client.SetLogLevel(ctx, "debug"); err != nil {
		t.Fatal(err)
	}
	if l, err := client.LogLevel(ctx); err != nil || l != "debug" {
		t.Errorf("log level %q, %v", l, err)
	}
	var user *localapi.UserError
	if err := client.SetLogLevel(ctx, "loud"); !errors.As(err, &user) || user.Hint == "" {
		t.Errorf("log level loud: %v", err)
	}
	if v, err := client.Version(ctx); err != nil || v.Version == "" || v.Go == "" {
		t.Errorf("version %+v, %v", v, err)
	}
}

func TestWaitReady(t *testing.T) {
	d := &localapitest.Daemon{}
	d.Update(func(st *localapi.Status) { st.State, st.Reasons = localapi.StateJoining, []string{"not joined"} })
	client, _, _ := start(t, d)
	ctx := testContext(t)
	ready, err := localapi.ParseCondition("ready")
	if err != nil {
		t.Fatal(err)
	}

	var problem *localapi.Problem
	_, err = client.Wait(ctx, ready, 20*time.Millisecond)
	if !errors.As(err, &problem) || problem.Status != 504 || !strings.Contains(problem.Message, "not joined") {
		t.Errorf("wait that ends: %v, want the reason", err)
	}
	type outcome struct {
		st  localapi.Status
		err error
	}
	got := make(chan outcome, 1)
	go func() {
		st, err := client.Wait(ctx, ready, 0)
		got <- outcome{st, err}
	}()
	// Ready may come before or after the wait begins: both must be noticed.
	d.Update(func(st *localapi.Status) { st.Ready, st.State = true, localapi.StateRunning })
	if o := <-got; o.err != nil || !o.st.Ready {
		t.Errorf("wait: %+v, %v", o.st, o.err)
	}
}

func TestWaitDirectPingsUntilThePathIsThere(t *testing.T) {
	d := &localapitest.Daemon{}
	d.Update(func(st *localapi.Status) {
		st.Peers = []localapi.PeerStatus{{Name: "db", Path: localapi.PathStatus{Kind: localapi.PathNone}}}
	})
	d.OnPing = func(context.Context, string) (localapi.PingResult, error) {
		d.Update(func(st *localapi.Status) {
			st.Peers = []localapi.PeerStatus{{Name: "db", Path: localapi.PathStatus{Kind: localapi.PathDirect}}}
		})
		return localapi.PingResult{}, nil
	}
	client, _, _ := start(t, d)
	cond, err := localapi.ParseCondition("direct:db")
	if err != nil {
		t.Fatal(err)
	}
	st, err := client.Wait(testContext(t), cond, 10*time.Second)
	if err != nil || st.Peers[0].Path.Kind != localapi.PathDirect {
		t.Errorf("wait: %+v, %v", st.Peers, err)
	}
	var problem *localapi.Problem
	cond, _ = localapi.ParseCondition("direct:ghost")
	if _, err = client.Wait(testContext(t), cond, 20*time.Millisecond); !errors.As(err, &problem) || !strings.Contains(problem.Message, "ghost") {
		t.Errorf("wait for nobody: %v", err)
	}
}

func TestWaitEndsWithTheDaemon(t *testing.T) {
	d := &localapitest.Daemon{}
	client, _, stop := start(t, d)
	ready, _ := localapi.ParseCondition("ready")
	got := make(chan error, 1)
	begun := d.Changed()
	go func() {
		_, err := client.Wait(testContext(t), ready, 0)
		got <- err
	}()
	d.Update(func(*localapi.Status) {})
	<-begun
	stop()
	if err := <-got; err == nil {
		t.Error("the wait succeeded without a ready daemon")
	}
}

func TestParseCondition(t *testing.T) {
	for _, s := range []string{"ready", "direct:db", "direct:100.64.0.2", "direct:fd00::1"} {
		if c, err := localapi.ParseCondition(s); err != nil || c.String() != s {
			t.Errorf("%q: %q, %v", s, c, err)
		}
	}
	for _, s := range []string{"", "direct", "direct:", "Ready", "relay:db"} {
		if _, err := localapi.ParseCondition(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
