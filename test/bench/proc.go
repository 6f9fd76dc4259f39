package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// proc is a process of a system.
type proc struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when it has ended
}

// start starts a prepared command whose standard error goes to a file in dir.
// The kernel kills it when this program ends, however that happens; for that
// the calling goroutine must be the main one, which never leaves its thread.
func start(dir, name string, cmd *exec.Cmd) (*proc, error) {
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // an interrupt of the terminal is for us alone
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &proc{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *proc) pid() int { return p.cmd.Process.Pid }

// ended is an error with the last words of a process that runs no more.
func (p *proc) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%v): %s", p.name, p.cmd.ProcessState, p.words())
	default:
		return nil
	}
}

// words are the last of the log.
func (p *proc) words() string {
	text, _ := os.ReadFile(p.log.Name())
	if len(text) > 600 {
		text = text[len(text)-600:]
	}
	return strings.TrimSpace(string(text))
}

// stop ends a process as its operator would; kill at once.
func (p *proc) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
	}
	p.kill()
}

func (p *proc) kill() {
	p.cmd.Process.Kill()
	<-p.done
	p.log.Close()
}

// cpu returns the CPU seconds a process has used: the sum of its threads, to
// the nanosecond. Go ends hardly any thread; what one that ended used is lost.
func (p *proc) cpu() (float64, error) {
	if err := p.ended(); err != nil {
		return 0, err
	}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid()))
	var sum float64
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return 0, err
		}
		ns, err := parseSchedstat(text)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += float64(ns) / 1e9
	}
	return sum, nil
}

// parseSchedstat returns the first of the three numbers: nanoseconds on a CPU.
func parseSchedstat(text []byte) (uint64, error) {
	first, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte(" "))
	return strconv.ParseUint(string(first), 10, 64)
}

// rss returns the resident memory of a process in bytes.
func (p *proc) rss() (float64, error) {
	if err := p.ended(); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	return parseRSS(text)
}

func parseRSS(status []byte) (float64, error) {
	_, rest, ok := strings.Cut(string(status), "\nVmRSS:")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0, errors.New("no VmRSS")
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	return kib * 1024, err
}
