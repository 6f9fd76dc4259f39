package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A connection's first byte says what the server does with it.
const (
	opSink   = 'S' // reads and forgets
	opSource = 'R' // writes until the client closes
	opEcho   = 'E' // answers one byte with one byte
)

const (
	// lifetime bounds every connection of the load, whatever happens.
	lifetime = 5 * time.Minute
	// patience bounds one step of a connection: to connect, to get a byte back.
	patience = 10 * time.Second
)

// Listen makes the agent a server at an address, TCP and UDP.
func (a *Agent) Listen(addr string, _ *Nothing) error {
	l, err := (&net.ListenConfig{Control: a.control}).Listen(context.Background(), "tcp4", addr)
	if err != nil {
		return err
	}
	if err := a.listenUDP(addr); err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go a.serve(c.(*net.TCPConn))
		}
	}()
	return nil
}

func (a *Agent) serve(c *net.TCPConn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(lifetime))
	var op [1]byte
	if _, err := io.ReadFull(c, op[:]); err != nil {
		return
	}
	switch op[0] {
	case opSink:
		drain(c, &a.up)
	case opSource:
		pour(c)
	case opEcho:
		for {
			if _, err := io.ReadFull(c, op[:]); err != nil {
				return
			}
			if _, err := c.Write(op[:]); err != nil {
				return
			}
		}
	}
}

// drain counts what arrives, without copying it out of the kernel.
func drain(c *net.TCPConn, total *atomic.Uint64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool {
		for {
			// No buffer: MSG_TRUNC throws the bytes away.
			n, _, e := unix.Syscall6(unix.SYS_RECVFROM, fd, 0, 4<<20, unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
			switch {
			case e == unix.EINTR:
			case e == unix.EAGAIN:
				return false
			case e != 0 || n == 0:
				return true
			default:
				total.Add(uint64(n))
			}
		}
	})
}

// zeros is a file in memory that pour sends from.
var zeros = sync.OnceValues(func() (int, error) {
	fd, err := unix.MemfdCreate("zeros", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Write(fd, make([]byte, 1<<20))
	}
	return fd, err
})

// pour writes until the connection breaks, without copying into the kernel.
func pour(c *net.TCPConn) {
	from, err := zeros()
	if err != nil {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Write(func(fd uintptr) bool {
		for {
			var at int64
			_, err := unix.Sendfile(int(fd), from, &at, 1<<20)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return false
			case err != nil:
				return true
			}
		}
	})
}

func (a *Agent) dial(addr string, op byte) (*net.TCPConn, error) {
	c, err := (&net.Dialer{Timeout: patience, Control: a.control}).Dial("tcp4", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(lifetime))
	if _, err := c.Write([]byte{op}); err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Streams says what Open opens.
type Streams struct {
	Addr string
	Up   bool // from the client to the server
	N    int
}

// Open opens streams and lets them flow until Drop.
func (a *Agent) Open(s Streams, _ *Nothing) error {
	for range s.N {
		op, flow := byte(opSource), func(c *net.TCPConn) { drain(c, &a.down) }
		if s.Up {
			op, flow = opSink, pour
		}
		c, err := a.dial(s.Addr, op)
		if err != nil {
			return err
		}
		a.keep(c)
		go flow(c)
	}
	return nil
}

// Pings says how long to play ping-pong on one connection.
type Pings struct {
	Addr   string
	Length time.Duration
}

// Trips are round trips, without the first one of a connection, which waited
// for its far legs.
type Trips struct {
	N             int
	P50, P99, Max time.Duration
}

// Ping sends a byte, waits for its echo, and so on.
func (a *Agent) Ping(p Pings, t *Trips) error {
	c, err := a.dial(p.Addr, opEcho)
	if err != nil {
		return err
	}
	defer c.Close()
	var took []time.Duration
	for end := time.Now().Add(p.Length); len(took) < 2 || time.Now().Before(end); {
		begun := time.Now()
		if err := echo(c); err != nil {
			return err
		}
		took = append(took, time.Since(begun))
	}
	took = took[1:]
	slices.Sort(took)
	*t = Trips{len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1]}
	return nil
}

func echo(c net.Conn) error {
	c.SetDeadline(time.Now().Add(patience))
	b := [1]byte{1}
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b[:])
	return err
}

// once opens a connection, uses it for one byte each way, and closes it.
func (a *Agent) once(addr string) error {
	c, err := a.dial(addr, opEcho)
	if err != nil {
		return err
	}
	defer c.Close()
	return echo(c)
}

// Try is one such connection; it says whether the system works.
func (a *Agent) Try(addr string, _ *Nothing) error { return a.once(addr) }

// Visits says how short connections are made.
type Visits struct {
	Addr    string
	Workers int
	Length  time.Duration
}

// Visited is how many there were, in which time.
type Visited struct {
	N    int
	Took time.Duration
}

// Visit makes short connections, one after the other in each worker.
func (a *Agent) Visit(v Visits, r *Visited) error {
	var n atomic.Int64
	errs := make([]error, v.Workers)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range v.Workers {
		wg.Go(func() {
			for errs[i] == nil && time.Since(begun) < v.Length {
				if errs[i] = a.once(v.Addr); errs[i] == nil {
					n.Add(1)
				}
			}
		})
	}
	wg.Wait()
	*r = Visited{int(n.Load()), time.Since(begun)}
	return errors.Join(errs...)
}

// Crowd says how many connections Idle opens.
type Crowd struct {
	Addr string
	N    int
}

// Idle opens connections that have carried one byte each way, and keeps them
// until Drop. It returns the time that took.
func (a *Agent) Idle(crowd Crowd, took *time.Duration) error {
	const workers = 16
	errs := make([]error, workers)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for j := i; j < crowd.N && errs[i] == nil; j += workers {
				if time.Since(begun) > time.Minute {
					errs[i] = fmt.Errorf("not open after a minute: %d of %d", j, crowd.N)
					return
				}
				c, err := a.dial(crowd.Addr, opEcho)
				if errs[i] = err; err != nil {
					return
				}
				a.keep(c)
				errs[i] = echo(c)
				c.SetDeadline(time.Time{})
			}
		})
	}
	wg.Wait()
	*took = time.Since(begun)
	return errors.Join(errs...)
}
