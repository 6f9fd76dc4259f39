//go:build linux

package netns

import (
	"bytes"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Proc is a running program.
type Proc struct {
	Name string

	t    T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	log bytes.Buffer // mu guards it
}

// Start starts a prepared command; the test's end kills it if it still runs.
// Its output is shown when the test fails.
func (h *Host) Start(name string, cmd *exec.Cmd) *Proc {
	h.t.Helper()
	p := &Proc{Name: name, t: h.t, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Kill ends its children, too
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		cmd.Wait() // what matters of its end is in cmd.ProcessState
		close(p.done)
	}()
	h.t.Cleanup(func() {
		p.Kill()
		if h.t.Failed() {
			h.t.Logf("---- log of %s ----\n%s", name, tail(p.Log(), 20000))
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
