package localapi_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/localapi"
	"nexd/localapi/localapitest"
	"nexd/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a daemon until the test ends, or until stop.
func start(t *testing.T, d localapi.Daemon) (client *localapi.Client, path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "nexd.sock")
	s, err := localapi.NewServer(localapi.ServerConfig{Path: path, Daemon: d})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return localapi.NewClient(path), path, stop
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func spec(t *testing.T, d rules.Direction, s string) rules.Spec {
	t.Helper()
	r, err := rules.Parse(d, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var _ localapi.Daemon = (*localapitest.Daemon)(nil)
