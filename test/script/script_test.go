package script

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"nexd/internal/cli"
	"nexd/state"
)

// TestMain makes this test binary also the two programs.
func TestMain(m *testing.M) {
	type program func(context.Context, []string, cli.Streams, func(string) string) int
	run := func(p program) func() {
		return func() {
			streams := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
			os.Exit(p(context.Background(), os.Args[1:], streams, os.Getenv))
		}
	}
	testscript.Main(m, map[string]func(){"nexd": run(cli.Nexd), "nexctl": run(cli.Nexctl)})
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 ".",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// Nothing of the person who runs the tests, or of this machine.
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("NEXD_STATE_DIR", filepath.Join(env.WorkDir, "state"))
			env.Setenv("NEXD_UNIX_SOCKET", filepath.Join(env.WorkDir, "nexd.sock"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      exits,
			"refused":    refused,
			"await":      await,
			"eventually": eventually,
			"setenv":     setenv,
			"hangup":     hangup,
		},
	})
}

// exits checks the exact exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts, ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// refused checks the exit code, the text, and that errors look as they should.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refused CODE TEXT PROGRAM ARGS...")
	}
	exits(ts, false, append(args[:1:1], args[2:]...))
	stderr := ts.ReadFile("stderr")
	if !strings.HasPrefix(stderr, "error: ") || !strings.Contains(stderr, args[1]) {
		ts.Fatalf("standard error does not say %q", args[1])
	}
	if strings.Contains(stderr, "Usage:") || strings.Contains(stderr, "goroutine") {
		ts.Fatalf("standard error says too much")
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output is not empty")
	}
}

func exitCode(ts *testscript.TestScript, err error) int {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

// until tries every few milliseconds, for half a minute at most.
func until(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			ts.Fatalf("still no %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	path := ts.MkAbs(args[0])
	until(ts, args[0], func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// eventually repeats a question until the answer has the text; negated, until
// there is an answer that has it not.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] eventually TEXT PROGRAM ARGS...")
	}
	what := "answer with "
	if neg {
		what = "answer without "
	}
	until(ts, what+strconv.Quote(args[0]), func() bool {
		code := exitCode(ts, ts.Exec(args[1], args[2:]...))
		has := strings.Contains(ts.ReadFile("stdout"), args[0])
		if neg {
			return code == 0 && !has
		}
		return has
	})
}

func setenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: setenv NAME FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

func hangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hangup DIR")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(filepath.Join(args[0], state.LockName))))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGHUP))
}
