package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A connection's first byte says what the server does with it.
const (
	opSink   = 'S' // reads to the end, then answers with the count (8 bytes)
	opSource = 'R' // writes until the client closes
	opEcho   = 'E' // answers one byte with one byte
)

const chunk = 128 << 10

// server is the far end of every load.
type server struct{ l net.Listener }

func newServer() (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{l: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return s, nil
}

func (s *server) addr() string { return s.l.Addr().String() }
func (s *server) close()       { s.l.Close() }

func serve(c net.Conn) {
	defer c.Close()
	var op [1]byte
	if _, err := io.ReadFull(c, op[:]); err != nil {
		return
	}
	buf := make([]byte, chunk)
	switch op[0] {
	case opSink:
		var n uint64
		for {
			m, err := c.Read(buf)
			n += uint64(m)
			if err != nil {
				break
			}
		}
		c.Write(binary.BigEndian.AppendUint64(nil, n))
	case opSource:
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
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

// test is one kind of load. run puts it on the system at addr and returns the
// amount done: bytes, or connections.
type test struct {
	name string
	unit string
	run  func(ctx context.Context, addr string, length time.Duration) (float64, error)
}

var tests = []test{
	{"tcp 1 up", "bytes", streams(1, upload)},
	{"tcp 1 down", "bytes", streams(1, download)},
	{"tcp 8 up", "bytes", streams(8, upload)},
	{"tcp 8 down", "bytes", streams(8, download)},
	{"connections", "connections", connections(16)},
}

func dial(addr string, op byte) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{op}); err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// streams runs n copies of one transfer and adds up their bytes.
func streams(n int, one func(addr string, length time.Duration) (uint64, error)) func(context.Context, string, time.Duration) (float64, error) {
	return func(_ context.Context, addr string, length time.Duration) (float64, error) {
		var total atomic.Uint64
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				bytes, err := one(addr, length)
				total.Add(bytes)
				errs[i] = err
			})
		}
		wg.Wait()
		return float64(total.Load()), errors.Join(errs...)
	}
}

// upload writes for the given time and returns what the server counted.
func upload(addr string, length time.Duration) (uint64, error) {
	c, err := dial(addr, opSink)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf := make([]byte, chunk)
	end := time.Now().Add(length)
	for time.Now().Before(end) {
		if _, err := c.Write(buf); err != nil {
			return 0, err
		}
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	var count [8]byte
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(c, count[:]); err != nil {
		return 0, fmt.Errorf("the server's count: %w", err)
	}
	return binary.BigEndian.Uint64(count[:]), nil
}

// download reads for the given time.
func download(addr string, length time.Duration) (uint64, error) {
	c, err := dial(addr, opSource)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(length))
	buf := make([]byte, chunk)
	var n uint64
	for {
		m, err := c.Read(buf)
		n += uint64(m)
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// connections opens, uses for one byte each way, and closes connections in n workers.
func connections(n int) func(context.Context, string, time.Duration) (float64, error) {
	return func(_ context.Context, addr string, length time.Duration) (float64, error) {
		var total atomic.Uint64
		errs := make([]error, n)
		end := time.Now().Add(length)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				for time.Now().Before(end) {
					if err := shortConnection(addr); err != nil {
						errs[i] = err
						return
					}
					total.Add(1)
				}
			})
		}
		wg.Wait()
		return float64(total.Load()), errors.Join(errs...)
	}
}

func shortConnection(addr string) error {
	c, err := dial(addr, opEcho)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	var b [1]byte
	_, err = io.ReadFull(c, b[:])
	return err
}
