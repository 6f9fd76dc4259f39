//go:build linux

package paths

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"nexd/test/netns"
)

// Serve answers TCP and UDP at AppPort of a host's loopback with what it is
// told, until the end of t.
func Serve(t netns.T, h *netns.Host) {
	t.Helper()
	at := fmt.Sprintf("127.0.0.1:%d", AppPort)
	l, err := netns.Inside(h, func() (net.Listener, error) { return net.Listen("tcp", at) })
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	u, err := netns.Inside(h, func() (net.PacketConn, error) { return net.ListenPacket("udp", at) })
	if err != nil {
		l.Close()
		t.Fatalf("%s: %v", h.Name, err)
	}
	s := &server{conns: map[net.Conn]bool{}}
	s.wg.Go(func() { s.accept(l) })
	s.wg.Go(func() { answer(u) })
	t.Cleanup(func() {
		l.Close()
		u.Close()
		s.close()
	})
}

// server is the TCP side of Serve.
type server struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool // mu guards it and the field below
	conns  map[net.Conn]bool
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			c.Close()
		} else {
			s.conns[c] = true
			s.wg.Go(func() { s.echo(c) })
		}
		s.mu.Unlock()
	}
}

func (s *server) echo(c net.Conn) {
	io.Copy(c, c)
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// answer sends datagrams back until the socket is closed.
func answer(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], from)
	}
}

// dial connects from inside a host to a port of its loopback.
func dial(h *netns.Host, network string, port int) (net.Conn, error) {
	return netns.Inside(h, func() (net.Conn, error) {
		return net.DialTimeout(network, fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second)
	})
}

// Say sends 4 KiB through a local TCP port of a member and wants them back. It
// returns how long that took from the beginning of the dialling, until the
// first byte and until the last.
func Say(m *Member, port int, limit time.Duration) (first, last time.Duration, err error) {
	begun := time.Now()
	c, err := dial(m.At.Host, "tcp", port)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	c.SetDeadline(begun.Add(limit))
	sent, got := make([]byte, 4<<10), make([]byte, 4<<10)
	rand.Read(sent)
	if _, err := c.Write(sent); err != nil {
		return 0, 0, err
	}
	if _, err := io.ReadFull(c, got[:1]); err != nil {
		return 0, 0, fmt.Errorf("the first byte: %w", err)
	}
	first = time.Since(begun)
	if _, err := io.ReadFull(c, got[1:]); err != nil {
		return first, 0, fmt.Errorf("the rest: %w", err)
	}
	if !bytes.Equal(sent, got) {
		return first, 0, fmt.Errorf("other bytes came back")
	}
	return first, time.Since(begun), nil
}
