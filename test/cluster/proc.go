package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Command returns a command in the node's namespace, as root.
func (n *Node) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.NS, name}, args...)...)
}

// CommandAs returns a command in the node's namespace as an unprivileged user
// without capabilities, groups, HOME or any other environment.
func (n *Node) CommandAs(uid int, name string, args ...string) *exec.Cmd {
	id := strconv.Itoa(uid)
	full := append([]string{"netns", "exec", n.NS, "chroot", "--userspec=" + id + ":" + id, "--groups=", "/", name}, args...)
	cmd := exec.Command("ip", full...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// Run runs a program in the namespace as root and returns what it printed on
// both streams; the test fails when the program does.
func (n *Node) Run(name string, args ...string) string {
	n.c.t.Helper()
	return n.RunFor(60*time.Second, name, args...)
}

// RunFor is Run with a bound on the time.
func (n *Node) RunFor(limit time.Duration, name string, args ...string) string {
	n.c.t.Helper()
	out, err := n.Try(limit, name, args...)
	if err != nil {
		n.c.t.Fatalf("%s: %s %s: %v\n%s", n.Name, name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try runs a program in the namespace as root and returns its output and error.
func (n *Node) Try(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.NS, name}, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %s: %w", limit, err)
	}
	return string(out), err
}

// Proc is a running program.
type Proc struct {
	Name string

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid when done is closed

	mu  sync.Mutex
	log bytes.Buffer // mu guards it
}

// Start starts a prepared command; the test's end kills it if it still runs.
// Its output is shown when the test fails.
func (n *Node) Start(name string, cmd *exec.Cmd) *Proc {
	n.c.t.Helper()
	p := &Proc{Name: name, t: n.c.t, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Kill ends its children, too
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		n.c.t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	n.c.t.Cleanup(func() {
		p.Kill()
		if n.c.t.Failed() {
			n.c.t.Logf("---- log of %s ----\n%s", name, tail(p.Log(), 20000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Write keeps the program's output.
func (p *Proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// Log returns what the program printed so far.
func (p *Proc) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// PID is the process id; the commands made by [Node.Command] end in an exec, so
// it is that of the program itself.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Proc) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %s: %v", p.Name, err)
	}
}

// Kill is kill -9 of the program and its children; it returns when it is gone.
func (p *Proc) Kill() {
	syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.done
}

// Wait waits for the program's end and returns its exit code.
func (p *Proc) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %s\n%s", p.Name, limit, tail(p.Log(), 8000))
		return -1
	}
}

// Stop sends SIGTERM and expects a clean end.
func (p *Proc) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(20 * time.Second); code != 0 {
		p.t.Fatalf("%s ended with %d\n%s", p.Name, code, tail(p.Log(), 8000))
	}
}

// Running reports whether the program still runs.
func (p *Proc) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Until calls ok until it returns nil; the test fails with its last error after limit.
func Until(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond) // the step of the poll
	}
}
