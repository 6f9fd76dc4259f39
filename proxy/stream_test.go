package proxy_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"nexd/internal/duplex"
	"nexd/internal/duplex/duplextest"
	"nexd/netstack/netstacktest"
	"nexd/proxy"
	"nexd/test/need"
)

type closeWriter interface{ CloseWrite() error }

// `nc -N`: the question and its FIN first, the answer after that.
func TestHalfClose(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		ln := listened(t, e.listen)
		w.apply(e.line(""))
		w.listening(0)
		client := dialled(t, e.dial)
		server := accepted(t, ln)
		if _, err := io.WriteString(client, "question"); err != nil {
			t.Fatal(err)
		}
		if err := client.(closeWriter).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(server); err != nil || string(got) != "question" {
			t.Fatalf("server read %q, %v", got, err)
		}
		if _, err := io.WriteString(server, "answer"); err != nil {
			t.Fatal(err)
		}
		_ = server.Close()
		if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
			t.Fatalf("client read %q, %v", got, err)
		}
		w.eventually(0, "counted", func(s proxy.RuleStatus) bool {
			return s.Active == 0 && s.Total == 1 && s.BytesIn == 8 && s.BytesOut == 6
		})
	})
}

func TestBigTransfer(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		const size = 16 << 20
		ln := listened(t, e.listen)
		want := make(chan []byte, 1)
		serve(t, ln, func(c net.Conn) {
			h := sha256.New()
			_, _ = io.Copy(io.MultiWriter(h, c), io.LimitReader(rand.NewChaCha8([32]byte{7}), size))
			want <- h.Sum(nil)
		})
		w.apply(e.line(""))
		w.listening(0)
		client := dialled(t, e.dial)
		_ = client.SetDeadline(time.Now().Add(patience))
		got := sha256.New()
		if n, err := io.Copy(got, client); err != nil || n != size {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		if string(got.Sum(nil)) != string(<-want) {
			t.Error("bytes changed on the way")
		}
	})
}

func TestResetGoesThrough(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		ln := listened(t, e.listen)
		w.apply(e.line(""))
		w.listening(0)
		for _, byClient := range []bool{true, false} {
			client := dialled(t, e.dial)
			server := accepted(t, ln)
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			from, to := client, server
			if !byClient {
				from, to = server, client
			}
			duplex.Abort(from)
			if _, err := io.ReadAll(to); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("by client %v: the other side read %v, want a reset", byClient, err)
			}
		}
		w.eventually(0, "counted", func(s proxy.RuleStatus) bool { return s.Stats.Resets == 2 })
	})
}

func TestRefusedDestination(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		w.apply(e.line(""))
		w.listening(0)
		if _, err := ask(t, e.dial); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("client read %v, want a reset", err)
		}
		w.eventually(0, "degraded", func(s proxy.RuleStatus) bool {
			return s.State == proxy.StateDegraded && strings.Contains(s.Error, "refused") && s.Stats.RefusedDial == 1 && s.Active == 0
		})
		serve(t, listened(t, e.listen), say("back"))
		if got, err := ask(t, e.dial); err != nil || got != "back" {
			t.Fatalf("read %q, %v", got, err)
		}
		w.listening(0)
	})
}

func TestThousandConnections(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		const count = 1000
		serve(t, listened(t, e.listen), echo)
		w.apply(e.line(",dial-timeout=1m")) // all of them at once, on any machine
		w.listening(0)
		conns := make([]net.Conn, count)
		errs := make(chan error, count)
		var wg sync.WaitGroup
		for i := range conns {
			wg.Go(func() {
				c, err := e.dial()
				if err != nil {
					errs <- err
					return
				}
				conns[i] = c
				_ = c.SetDeadline(time.Now().Add(patience))
				text := fmt.Sprintf("connection %d", i)
				got := make([]byte, len(text))
				if _, err := io.WriteString(c, text); err != nil {
					errs <- err
				} else if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
					errs <- fmt.Errorf("read %q, %w", got, err)
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			t.Error(err)
		default:
		}
		if s := w.status(0); s.Active != count && !t.Failed() {
			t.Errorf("%d active, want %d", s.Active, count)
		}
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		w.eventually(0, "quiet", func(s proxy.RuleStatus) bool { return s.Active == 0 })
	})
}

func TestMaxConns(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		serve(t, listened(t, e.listen), echo)
		w.apply(e.line(",max-conns=2"))
		w.listening(0)
		first, second := dialled(t, e.dial), dialled(t, e.dial)
		roundTrip(t, first, "one")
		roundTrip(t, second, "two")
		if _, err := ask(t, e.dial); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("third read %v, want a reset", err)
		}
		if s := w.status(0); s.Stats.RefusedMax != 1 {
			t.Errorf("stats %+v", s.Stats)
		}
		first.Close()
		w.eventually(0, "one left", func(s proxy.RuleStatus) bool { return s.Active == 1 })
		roundTrip(t, dialled(t, e.dial), "room again")
	})
}

func TestIdleTimeout(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		serve(t, listened(t, e.listen), echo)
		const idle = 400 * time.Millisecond
		w.apply(e.line(fmt.Sprint(",idle-timeout=", idle)))
		w.listening(0)
		var c net.Conn
		tries := inTime(t, idle/2, func() error {
			c = dialled(t, e.dial)
			return trip(c, "x")
		})
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("read %v, want a plain end", err)
		}
		w.eventually(0, "counted", func(s proxy.RuleStatus) bool { return s.Stats.IdleEnds == tries })
	})
}

func TestDialTimeout(t *testing.T) {
	w := stackWorld(t)
	w.start(time.Second)
	// A member that is in the directory and never answers.
	silent := netip.MustParseAddr("100.64.0.99")
	w.dir.add(member{name: "silent", addrs: []netip.Addr{silent}})
	port := need.Port(t)
	w.apply(fmt.Sprintf("egress tcp:%d:silent:80,dial-timeout=300ms", port))
	w.listening(0)
	began := time.Now()
	if _, err := ask(t, func() (net.Conn, error) { return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)) }); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read %v, want a reset", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	w.eventually(0, "degraded", func(s proxy.RuleStatus) bool { return s.State == proxy.StateDegraded })
}

func TestUnixSocket(t *testing.T) {
	inWorlds(t, func(t *testing.T, w *world) {
		w.start(time.Second)
		path := filepath.Join(t.TempDir(), "app.sock")
		ln := listened(t, func() (net.Listener, error) { return net.Listen("unix", path) })
		port := need.Port(t)
		w.apply(fmt.Sprintf("ingress tcp:%d:unix:%s", port, path))
		w.listening(0)
		client := dialled(t, func() (net.Conn, error) {
			return w.peer.DialTCP(context.Background(), netip.AddrPortFrom(w.own[0], port))
		})
		server := accepted(t, ln)
		_, _ = io.WriteString(client, "question")
		_ = client.(closeWriter).CloseWrite()
		if got, err := io.ReadAll(server); err != nil || string(got) != "question" {
			t.Fatalf("server read %q, %v", got, err)
		}
		_, _ = io.WriteString(server, "answer")
		server.Close()
		if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
			t.Fatalf("client read %q, %v", got, err)
		}
	})
}

func TestProxyProtocol(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			bothDirections(t, func(t *testing.T, w *world, e ends) {
				plain := listened(t, e.listen)
				w.apply(e.line(",proxy-protocol=" + version))
				w.listening(0)
				client := dialled(t, e.dial)
				checkHeader(t, plain, client)
			})
		})
		t.Run(version+" over IPv6 to a unix socket", func(t *testing.T) {
			w := stackWorld(t)
			w.start(time.Second)
			path := filepath.Join(t.TempDir(), "app.sock")
			ln := listened(t, func() (net.Listener, error) { return net.Listen("unix", path) })
			w.apply("ingress tcp:443:unix:" + path + ",proxy-protocol=" + version)
			w.listening(0)
			checkHeader(t, ln, dialled(t, func() (net.Conn, error) {
				return w.peer.DialTCP(context.Background(), netip.AddrPortFrom(netstacktest.A6, 443))
			}))
		})
	}
}

// checkHeader accepts with another implementation and compares what it read.
func checkHeader(t *testing.T, plain net.Listener, client net.Conn) {
	t.Helper()
	ln := &proxyproto.Listener{Listener: plain, ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		return proxyproto.REQUIRE, nil
	}}
	server := accepted(t, ln)
	if _, err := io.WriteString(client, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}
	if server.RemoteAddr().String() != client.LocalAddr().String() {
		t.Errorf("source %v, want %v", server.RemoteAddr(), client.LocalAddr())
	}
	if server.LocalAddr().String() != client.RemoteAddr().String() {
		t.Errorf("destination %v, want %v", server.LocalAddr(), client.RemoteAddr())
	}
}

// The copying loop on real stacks.
func TestDuplexOnNetstack(t *testing.T) {
	a, b := netstacktest.Pair(t)
	var mu sync.Mutex
	port := uint16(1000)
	pair := func(t testing.TB) (near, far net.Conn) {
		t.Helper()
		mu.Lock()
		port++
		at := netip.AddrPortFrom(netstacktest.B4, port)
		mu.Unlock()
		ln := must[net.Listener](t)(b.ListenTCP(at))
		defer ln.Close()
		near, err := a.DialTCP(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return near, must[net.Conn](t)(ln.Accept())
	}
	t.Run("host-mesh", func(t *testing.T) { duplextest.Run(t, duplex.Copy, duplextest.TCP, pair) })
	t.Run("mesh-mesh", func(t *testing.T) { duplextest.Run(t, duplex.Copy, pair, pair) })
}
