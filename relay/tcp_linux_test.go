package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// tcpPair returns both ends of a connection, the first as ours.
func tcpPair(t *testing.T) (*tcpConn, net.Conn) {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listener(plain)
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	_, q := tcpOf(near)
	if q == nil {
		t.Fatalf("a listener gives a %T", near)
	}
	return q, far
}

// Megabytes pass both ways, more than the socket takes at once, and the end is an EOF.
func TestTCPConnMovesBytes(t *testing.T) {
	near, far := tcpPair(t)
	sent := make([]byte, 8<<20)
	rand.Read(sent)
	for name, c := range map[string]struct{ from, to net.Conn }{"out": {near, far}, "in": {far, near}} {
		wrote := make(chan error, 1)
		go func() {
			_, err := c.from.Write(sent)
			wrote <- err
		}()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c.to, got); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	far.(*net.TCPConn).CloseWrite()
	if n, err := near.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, err := near.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing wanted: %d, %v", n, err)
	}
}

func TestTCPConnEnds(t *testing.T) {
	near, far := tcpPair(t)
	near.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read after its deadline: %v", err)
	}
	near.SetDeadline(time.Time{})
	const much = 64 << 20
	var n int
	var err error
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		n, err = near.Write(make([]byte, much))
	}()
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	near.SetWriteDeadline(time.Now())
	if <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == much {
		t.Errorf("write that nobody reads: %d, %v", n, err)
	}
	near.SetDeadline(time.Time{})
	blocked := make(chan error, 1)
	go func() {
		_, err := near.Read(make([]byte, 1))
		blocked <- err
	}()
	near.Close()
	if err := <-blocked; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of a closed one: %v", err)
	}
	if _, err := near.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write to a closed one: %v", err)
	}
}

// A reset is an error that says what failed.
func TestTCPConnIsReset(t *testing.T) {
	near, far := tcpPair(t)
	far.(*net.TCPConn).SetLinger(0)
	far.Close() // a reset
	var op *net.OpError
	if _, err := near.Read(make([]byte, 1)); !errors.As(err, &op) || op.Op != "read" {
		t.Errorf("read after a reset: %v", err)
	}
	if _, err := near.Write(make([]byte, 1)); !errors.As(err, &op) || op.Op != "write" {
		t.Errorf("write after a reset: %v", err)
	}
}

// Held writes leave at release, in order; too many leave before.
func TestTCPConnHolds(t *testing.T) {
	near, far := tcpPair(t)
	nothing := func(when string) {
		t.Helper()
		far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: %d bytes, %v", when, n, err)
		}
		far.SetReadDeadline(time.Time{})
	}
	comes := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(far, got); err != nil || string(got) != want {
			t.Fatalf("got %.20q, %v", got, err)
		}
	}
	near.hold()
	near.hold() // once is enough
	near.Write([]byte("one "))
	near.Write([]byte("two"))
	nothing("held")
	if err := near.release(); err != nil {
		t.Fatal(err)
	}
	comes("one two")
	near.Write([]byte("three"))
	comes("three")

	near.hold()
	near.Write([]byte("first "))
	more := bytes.Repeat([]byte{'x'}, holdSize)
	near.Write(more)
	comes("first " + string(more))
	near.Write([]byte("last"))
	nothing("held again")
	near.release()
	comes("last")
	if err := near.release(); err != nil {
		t.Errorf("nothing held: %v", err)
	}
}

// An HTTPS server below which our listener is serves a client with our
// dialler: both find the TCP connection below TLS.
func TestBothEndsFindTheirTCP(t *testing.T) {
	r := newRelay(t)
	a := r.node("net", onlyTLS)
	b := r.node("net", onlyTLS)
	a.connected(TLS)
	b.connected(TLS)
	if u := a.up.Load(); u.ws.tcp == nil {
		t.Error("the client does not know its TCP connection")
	}
	r.server.mu.Lock()
	for c := range r.server.conns {
		if c.tcp == nil {
			t.Error("the relay does not know a client's TCP connection")
		}
	}
	r.server.mu.Unlock()
	a.reaches(b, "one")
	b.reaches(a, "two")
}
