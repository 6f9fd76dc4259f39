package netstack_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

func TestConnConformance(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				a, b := netstacktest.Pair(t)
				c, s := connect(t, a, b, f.b)
				c.SetDeadline(time.Time{})
				s.SetDeadline(time.Time{})
				return c, s, func() { c.Close(); s.Close() }, nil
			})
		})
	}
}

func TestHalfClose(t *testing.T) {
	a, b := netstacktest.Pair(t)
	for name, swap := range map[string]bool{"client first": false, "server first": true} {
		t.Run(name, func(t *testing.T) {
			first, second := connect(t, a, b, netstacktest.B4)
			if swap {
				first, second = second, first
			}
			must(t, write(first, "question"))
			must(t, first.CloseWrite())
			if got, err := io.ReadAll(second); err != nil || string(got) != "question" {
				t.Fatalf("%q, %v", got, err)
			}
			if _, err := first.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("write after CloseWrite: %v", err)
			}
			// The other direction is open for as long as it is needed.
			answer := bytes.Repeat([]byte("answer"), 100_000)
			go func() {
				second.Write(answer)
				second.Close()
			}()
			if got, err := io.ReadAll(first); err != nil || !bytes.Equal(got, answer) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	a, b := netstacktest.Pair(t)
	client, server := connect(t, a, b, netstacktest.B4)
	data := bytes.Repeat([]byte("x"), 700_000)
	must(t, write(client, string(data)))
	must(t, client.Close())
	if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestReset(t *testing.T) {
	a, b := netstacktest.Pair(t)
	for name, swap := range map[string]bool{"by the client": false, "by the server": true} {
		t.Run(name, func(t *testing.T) {
			first, second := connect(t, a, b, netstacktest.B6)
			if swap {
				first, second = second, first
			}
			must(t, write(first, "last words"))
			buf := make([]byte, 100)
			if n, err := second.Read(buf); err != nil || string(buf[:n]) != "last words" {
				t.Fatalf("%q, %v", buf[:n], err)
			}
			must(t, first.Reset())
			for range 3 { // the error stays
				_, err := second.Read(buf)
				var op *net.OpError
				if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) {
					t.Fatalf("read after the peer's reset: %v", err)
				}
			}
			if _, err := second.Write(buf); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("write after the peer's reset: %v", err)
			}
			if _, err := first.Read(buf); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after own reset: %v", err)
			}
			must(t, first.Reset())
		})
	}
}

func TestCloseRead(t *testing.T) {
	a, b := netstacktest.Pair(t)
	client, server := connect(t, a, b, netstacktest.B4)
	must(t, client.CloseRead())
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after CloseRead: %v", err)
	}
	must(t, write(client, "still going"))
	must(t, client.CloseWrite())
	if got, err := io.ReadAll(server); err != nil || string(got) != "still going" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCloseUnblocks(t *testing.T) {
	a, b := netstacktest.Pair(t)
	client, server := connect(t, a, b, netstacktest.B4)
	client.SetDeadline(time.Time{})
	failed := make(chan error, 2)
	go func() { _, err := client.Read(make([]byte, 1)); failed <- err }()
	go func() {
		var err error
		for err == nil { // until all buffers are full: nobody reads
			_, err = client.Write(make([]byte, 1<<20))
		}
		failed <- err
	}()
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	must(t, client.Close())
	for range 2 {
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	if err := client.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	if err := client.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deadline after close: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	a, b := netstacktest.Pair(t)
	client, server := connect(t, a, b, netstacktest.B4)
	must(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	must(t, client.SetReadDeadline(time.Now().Add(patience)))
	must(t, write(server, "x"))
	if _, err := client.Read(make([]byte, 1)); err != nil {
		t.Errorf("read with a new deadline: %v", err)
	}
	must(t, client.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	sent := 0
	for {
		n, err := client.Write(make([]byte, 1<<20))
		sent += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write: %v", err)
			}
			break
		}
	}
	client.Close()
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{server}); err != nil || int(n) != sent {
		t.Errorf("%d bytes of %d arrived: %v", n, sent, err)
	}
}

func TestListenerClose(t *testing.T) {
	a, b := netstacktest.Pair(t)
	l, at := listen(t, b, netstacktest.B4)
	client, err := a.DialTCP(testContext(t), at)
	must(t, err)
	defer client.Close()
	server, err := l.Accept()
	must(t, err)
	defer server.Close()

	blocked := make(chan error, 2)
	for range 2 {
		go func() { _, err := l.Accept(); blocked <- err }()
	}
	must(t, l.Close())
	must(t, l.Close())
	for range 2 {
		if err := <-blocked; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
	}
	// What was accepted lives on, and the port is free at once.
	must(t, write(client, "alive"))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(server, buf); err != nil {
		t.Error(err)
	}
	if _, err := a.DialTCP(testContext(t), at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after close: %v", err)
	}
	again, err := b.ListenTCP(at)
	must(t, err)
	defer again.Close()
	if _, err := b.ListenTCP(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
	if _, err := b.ListenTCP(netip.AddrPortFrom(netstacktest.A4, 80)); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("another's address: %v", err)
	}
}

// A connection that is reset before anybody accepts it still has its names.
func TestAcceptAfterReset(t *testing.T) {
	a, b := netstacktest.Pair(t)
	l, at := listen(t, b, netstacktest.B4)
	client, err := a.DialTCP(testContext(t), at)
	must(t, err)
	must(t, write(client, "x"))
	must(t, client.Reset())
	_, err = a.Ping(testContext(t), netstacktest.B4) // the reset has arrived
	must(t, err)
	server, err := l.Accept()
	must(t, err)
	defer server.Close()
	if got := server.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != netstacktest.A4 {
		t.Errorf("remote %v", got)
	}
	server.SetDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{server}); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
}

func TestManyConns(t *testing.T) {
	const conns = 1000
	a, b := netstacktest.Pair(t)
	l, at := listen(t, b, netstacktest.B4)
	var servers sync.WaitGroup
	defer servers.Wait()
	defer l.Close()
	servers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			servers.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	var clients sync.WaitGroup
	errs := make(chan error, conns)
	gate := make(chan struct{}, 256)
	open := make(chan *netstack.Conn, conns)
	for range conns {
		clients.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			c, err := a.DialTCP(testContext(t), at)
			if err != nil {
				errs <- err
				return
			}
			open <- c
		})
	}
	clients.Wait()
	close(open)
	for c := range open { // all of them are open now
		clients.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			data := bytes.Repeat([]byte("ping"), 1000)
			if err := write(c, string(data)); err != nil {
				errs <- err
				return
			}
			c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				errs <- errors.Join(err, errors.New("wrong echo"))
			}
		})
	}
	clients.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestKeepAliveOptions(t *testing.T) {
	a, b := netstacktest.Pair(t)
	client, _ := connect(t, a, b, netstacktest.B4)
	must(t, client.SetKeepAlive(false))
	must(t, client.SetKeepAlivePeriod(time.Minute))
	must(t, client.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}))
	must(t, client.SetNoDelay(false))
	client.Close()
	if err := client.SetKeepAlive(true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestKeepAliveFindsDeadPeer(t *testing.T) {
	cut := make(chan struct{})
	a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: func([]byte, bool) bool {
		select {
		case <-cut:
			return false
		default:
			return true
		}
	}})
	client, _ := connect(t, a, b, netstacktest.B4)
	close(cut)
	must(t, client.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 100 * time.Millisecond, Interval: 100 * time.Millisecond, Count: 2}))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("%v", err)
	}
}

func write(c net.Conn, s string) error {
	_, err := c.Write([]byte(s))
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
