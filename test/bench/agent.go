package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Agent makes the load of a system, or carries its packets: it is what a child
// process serves over its standard input and output. Every call is bounded in
// time by its arguments.
type Agent struct {
	up, down  atomic.Uint64 // bytes read, as server and as client
	datagrams atomic.Uint64 // read, as server

	control func(network, addr string, c syscall.RawConn) error // of sockets, see TCP

	mu    sync.Mutex
	conns map[net.Conn]struct{} // what Open and Idle opened; mu guards it
	wire  *wire
}

// Nothing is an empty argument or answer.
type Nothing struct{}

// serveAgent is the life of a child.
func serveAgent() error {
	raiseFiles()
	s := rpc.NewServer()
	if err := s.Register(&Agent{conns: map[net.Conn]struct{}{}}); err != nil {
		return err
	}
	s.ServeConn(stdio{})
	return nil
}

type stdio struct{}

func (stdio) Read(b []byte) (int, error)  { return os.Stdin.Read(b) }
func (stdio) Write(b []byte) (int, error) { return os.Stdout.Write(b) }
func (stdio) Close() error                { return os.Stdin.Close() }

// raiseFiles lets this process and its children open as many files as may be:
// for 10,000 connections a proxy that splices wants 60,000.
func raiseFiles() {
	const wanted = 1 << 18
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return
	}
	more := syscall.Rlimit{Cur: max(l.Max, wanted), Max: max(l.Max, wanted)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) != nil { // that is root's
		l.Cur = l.Max
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
}

// load is an agent as seen from outside.
type load struct {
	*proc
	client *rpc.Client
}

// pipes joins two one-way streams.
type pipes struct {
	io.Reader
	io.WriteCloser
}

// newLoad starts an agent; in a new namespace, or where cmd runs.
func newLoad(dir, name string, cmd *exec.Cmd, fresh bool) (*load, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if fresh {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	p, err := start(dir, name, cmd)
	if err != nil {
		return nil, err
	}
	return &load{proc: p, client: rpc.NewClient(pipes{out, in})}, nil
}

// call asks the agent for something it does within limit.
func (l *load) call(method string, args, reply any, limit time.Duration) error {
	c := l.client.Go("Agent."+method, args, reply, make(chan *rpc.Call, 1))
	select {
	case <-c.Done:
		if errors.Is(c.Error, rpc.ErrShutdown) || errors.Is(c.Error, io.ErrUnexpectedEOF) {
			return fmt.Errorf("the load's %s is gone: %s", l.name, l.words())
		}
		return c.Error
	case <-time.After(limit):
		return fmt.Errorf("%s: no answer of the load within %s", method, limit)
	}
}

func (a *Agent) keep(c net.Conn) {
	a.mu.Lock()
	a.conns[c] = struct{}{}
	a.mu.Unlock()
}

// Drop cuts what Open and Idle left open.
func (a *Agent) Drop(Nothing, *Nothing) error {
	a.mu.Lock()
	conns := a.conns
	a.conns = map[net.Conn]struct{}{}
	a.mu.Unlock()
	for c := range conns {
		c.(*net.TCPConn).SetLinger(0) // what is under way is of no use any more
		c.Close()
	}
	return nil
}

// TCP sets the congestion control of sockets opened from now on.
func (a *Agent) TCP(name string, _ *Nothing) error {
	a.control = func(network, _ string, c syscall.RawConn) (err error) {
		if network[0] != 't' {
			return nil
		}
		cerr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name); err != nil {
				err = fmt.Errorf("congestion control %s: %w", name, err)
			}
		})
		return errors.Join(err, cerr)
	}
	return nil
}

// Counts are what an agent has read since it started.
type Counts struct{ Up, Down, Datagrams uint64 }

// Count returns the counters.
func (a *Agent) Count(_ Nothing, c *Counts) error {
	*c = Counts{a.up.Load(), a.down.Load(), a.datagrams.Load()}
	return nil
}
