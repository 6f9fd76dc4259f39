package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"

	"nexd/rules"
)

func TestSignals(t *testing.T) {
	t.Run("the first drains", func(t *testing.T) {
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM
		drained := false
		err := supervise(context.Background(), slog.New(slog.DiscardHandler), signals, func(ctx context.Context) error {
			<-ctx.Done()
			drained = true
			return nil
		}, nil)
		if err != nil || !drained {
			t.Errorf("%v, drained %v", err, drained)
		}
	})
	t.Run("the second ends at once, an echo of the first does not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			signals := make(chan os.Signal, 2)
			release, ended := make(chan struct{}), make(chan struct{})
			result := make(chan error, 1)
			go func() {
				result <- supervise(context.Background(), slog.New(slog.DiscardHandler), signals, func(context.Context) error {
					defer close(ended)
					<-release
					return nil
				}, nil)
			}()
			signals <- syscall.SIGINT
			signals <- syscall.SIGINT
			synctest.Wait()
			if len(result) > 0 {
				t.Fatalf("ended: %v", <-result)
			}
			time.Sleep(echo) // of the bubble's clock
			signals <- syscall.SIGTERM
			if e := explain(<-result); e == nil || e.Code != exitFailed || !strings.Contains(e.Message, "SIGTERM") {
				t.Errorf("got %v", e)
			}
			close(release)
			<-ended
		})
	})
	t.Run("SIGHUP reloads and an error ends nothing", func(t *testing.T) {
		signals := make(chan os.Signal, 3)
		signals <- syscall.SIGHUP
		signals <- syscall.SIGHUP
		signals <- syscall.SIGTERM
		reloads := 0
		err := supervise(context.Background(), slog.New(slog.DiscardHandler), signals, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}, func() error { reloads++; return errors.New("bad file") })
		if err != nil || reloads != 2 {
			t.Errorf("%v, %d reloads", err, reloads)
		}
	})
	t.Run("an error of the daemon is the result", func(t *testing.T) {
		want := errors.New("broken")
		if err := supervise(context.Background(), slog.New(slog.DiscardHandler), nil, func(context.Context) error { return want }, nil); err != want {
			t.Errorf("got %v", err)
		}
	})
}

// ruleTaker stands for the node.
type ruleTaker struct {
	rules []rules.Spec
	err   error
}

func (r *ruleTaker) Reload(list []rules.Spec) error {
	if r.err != nil {
		return r.err
	}
	r.rules = list
	return nil
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexd.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ingress: tcp:80:127.0.0.1:80\nlog-level: info\n")
	a := &app{env: func(name string) string { return map[string]string{"HOME": "/nowhere"}[name] }}
	p := newProxySettings(a.env)
	fs := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	p.register(fs)
	if err := fs.Parse([]string{"--config", path, "--egress", "tcp:1:a:1"}); err != nil {
		t.Fatal(err)
	}
	if err := p.load(a.places()); err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	log, level := p.log.open(&lines)
	node := &ruleTaker{rules: p.node.Rules}
	r := &reloader{app: a, current: p, node: node, log: log, level: level}

	for _, wrong := range []string{"ingress: tcp:80\n", "nonsense: 1\n", "ingress: tcp:80:127.0.0.1:80\nlog-level: loud\n", "mtu: 5\n"} {
		write(wrong)
		if err := r.reload(); err == nil {
			t.Errorf("%q was taken", wrong)
		}
		if len(node.rules) != 2 || level.Level() != slog.LevelInfo {
			t.Fatalf("%q changed something: %v, %v", wrong, node.rules, level.Level())
		}
	}
	node.err = errors.New("conflict")
	write("ingress: tcp:80:127.0.0.1:80\nlog-level: debug\n")
	if err := r.reload(); err == nil || level.Level() != slog.LevelInfo {
		t.Errorf("refused rules: %v, level %v", err, level.Level())
	}
	node.err = nil
	write("ingress:\n  - tcp:80:127.0.0.1:80\n  - tcp:81:127.0.0.1:81\nlog-level: debug\nmtu: 1300\n")
	if err := r.reload(); err != nil {
		t.Fatal(err)
	}
	if len(node.rules) != 3 || level.Level() != slog.LevelDebug {
		t.Errorf("after the reload: %v, %v", node.rules, level.Level())
	}
	if !strings.Contains(lines.String(), "needs a restart") || !strings.Contains(lines.String(), "setting=mtu") {
		t.Errorf("the log does not name mtu:\n%s", lines.String())
	}
	// A level set at run time stays when the file's did not change.
	level.Set(slog.LevelError)
	if err := r.reload(); err != nil || level.Level() != slog.LevelError {
		t.Errorf("%v, level %v", err, level.Level())
	}
}
