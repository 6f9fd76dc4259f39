package controlclient_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
	"nexd/key"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("CONTROLCLIENT_TEST_CHILD"); url != "" {
		os.Exit(child(url)) // see proxy_test.go
	}
	goleak.VerifyTestMain(m)
}

// client returns a client that trusts f by its pin; change may alter that.
func client(t *testing.T, f *controlclienttest.Fake, change ...func(*controlclient.Config)) *controlclient.Client {
	t.Helper()
	cfg := controlclient.Config{ServiceURL: f.URL(), Pin: f.Pin(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range change {
		c(&cfg)
	}
	c, err := controlclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within returns a context for one story.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func params(name string) controlclient.JoinParams {
	return controlclient.JoinParams{Private: key.NewPrivate(), RegKey: controlclienttest.RegSecret, Name: name}
}

func join(t *testing.T, c *controlclient.Client, name string) controlapi.JoinResponse {
	t.Helper()
	resp, err := c.Join(within(t, 10*time.Second), params(name))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// follower is a Watch under way, its events, and the map they make.
type follower struct {
	t      *testing.T
	events chan controlapi.Event
	states chan error // nil: connected
	done   chan struct{}
	err    error // of Watch; valid after done
	stop   context.CancelFunc

	mu sync.Mutex // guards m
	m  controlapi.Map
}

// follow starts a Watch that reconnects quickly; change may alter that.
func follow(t *testing.T, c *controlclient.Client, credential string, change ...func(*controlclient.WatchConfig)) *follower {
	t.Helper()
	f := &follower{t: t, events: make(chan controlapi.Event, 4096), states: make(chan error, 4096), done: make(chan struct{})}
	cfg := controlclient.WatchConfig{
		Credential: credential, MinWait: time.Millisecond, MaxWait: 5 * time.Millisecond, HeartbeatTimeout: 5 * time.Second,
		On: func(ev controlapi.Event) {
			f.mu.Lock()
			controlclient.Apply(&f.m, ev)
			f.mu.Unlock()
			f.events <- ev
		},
		OnState: func(connected bool, err error) {
			if connected != (err == nil) {
				t.Errorf("OnState(%t, %v)", connected, err)
			}
			f.states <- err
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	go func() {
		defer close(f.done)
		f.err = c.Watch(ctx, cfg)
	}()
	t.Cleanup(func() {
		cancel()
		<-f.done
	})
	return f
}

// next returns the next event of a type, passing over others.
func (f *follower) next(kind controlapi.EventType) controlapi.Event {
	f.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case ev := <-f.events:
			if ev.Type == kind {
				return ev
			}
		case <-timeout:
			f.t.Fatalf("no %s event", kind)
		}
	}
}

// connected waits until the stream stands; lost until it does not, and says why.
func (f *follower) connected() {
	f.t.Helper()
	f.state(func(err error) bool { return err == nil })
}

func (f *follower) lost() error {
	f.t.Helper()
	return f.state(func(err error) bool { return err != nil })
}

func (f *follower) state(ok func(error) bool) error {
	f.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case err := <-f.states:
			if ok(err) {
				return err
			}
		case <-timeout:
			f.t.Fatal("the state of the stream does not change")
		}
	}
}

// ended waits for Watch to return.
func (f *follower) ended() error {
	f.t.Helper()
	select {
	case <-f.done:
	case <-time.After(10 * time.Second):
		f.t.Fatal("Watch goes on")
	}
	return f.err
}

// peers returns the names of the peers in the map kept.
func (f *follower) peers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := []string{}
	for _, d := range f.m.Peers {
		names = append(names, d.Name)
	}
	return names
}

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
