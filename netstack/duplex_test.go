package netstack_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"nexd/internal/duplex"
	"nexd/internal/duplex/duplextest"
	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

func meshPair(t testing.TB) (near, far net.Conn) {
	a, b := netstacktest.Pair(t)
	return connect(t, a, b, netstacktest.B4)
}

// What a proxy does with streams works on ours as on the host's sockets:
// half-close, resets and the rest pass from one kind to the other.
func TestStreamsPassThroughProxyLoop(t *testing.T) {
	duplextest.Run(t, duplex.Copy, meshPair, duplextest.TCP)
}

// The same where nobody waits in a stream, and no buffer lies between.
func TestStreamsPassThroughMover(t *testing.T) {
	for _, host := range []struct {
		name string
		pair duplextest.Pair
	}{{"TCP", duplextest.TCP}, {"Unix", duplextest.Unix}, {"Pipe", duplextest.Pipe}} {
		t.Run(host.name, func(t *testing.T) {
			m := duplex.NewMover()
			defer m.Close()
			duplextest.Run(t, waiting(m), meshPair, host.pair)
		})
	}
}

// Pairs that give their goroutine back all the time lose nothing by it.
func TestStreamsPassThroughSleepyMover(t *testing.T) {
	m := duplex.NewMover()
	m.QuietTime = time.Millisecond
	defer m.Close()
	duplextest.Run(t, waiting(m), meshPair, duplextest.TCP)
}

// waiting makes Move wait, as the suite wants it.
func waiting(m *duplex.Mover) duplextest.Copier {
	return func(ctx context.Context, a, b net.Conn, o duplex.Options) duplex.Result {
		done := make(chan duplex.Result, 1)
		go m.Move(ctx, a, b, o, func(r duplex.Result) { done <- r })
		return <-done
	}
}

// BenchmarkLoops compares the two loops: a client and a server on host sockets,
// and two loops with the mesh between them.
func BenchmarkLoops(b *testing.B) {
	for _, kind := range []string{"copy", "move"} {
		loop := duplexCopier(b, kind)
		b.Run("ping/"+kind, func(b *testing.B) {
			client, server := chain(b, loop)
			go func() {
				var p [1]byte
				for {
					if _, err := server.Read(p[:]); err != nil {
						return
					}
					server.Write(p[:])
				}
			}()
			var p [1]byte
			for b.Loop() {
				if _, err := client.Write(p[:]); err != nil {
					b.Fatal(err)
				}
				if _, err := client.Read(p[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("bulk/"+kind, func(b *testing.B) {
			client, server := chain(b, loop)
			const size = 1 << 20
			b.SetBytes(size)
			data, rest := make([]byte, size), make([]byte, size)
			go func() {
				for {
					if _, err := client.Write(data); err != nil {
						return
					}
				}
			}()
			for b.Loop() {
				if _, err := io.ReadFull(server, rest); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("short/"+kind, func(b *testing.B) {
			near, far := netstacktest.Pair(b)
			for b.Loop() {
				client, server, end := chainOver(b, loop, near, far)
				if _, err := client.Write([]byte("x")); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				client.Close()
				if _, err := io.ReadAll(server); err != nil {
					b.Fatal(err)
				}
				server.Close()
				end()
			}
		})
	}
}

func duplexCopier(b *testing.B, kind string) duplextest.Copier {
	if kind == "copy" {
		return duplex.Copy
	}
	m := duplex.NewMover()
	b.Cleanup(m.Close)
	return waiting(m)
}

func chain(b *testing.B, loop duplextest.Copier) (client, server net.Conn) {
	near, far := netstacktest.Pair(b)
	client, server, end := chainOver(b, loop, near, far)
	b.Cleanup(func() {
		client.Close()
		server.Close()
		end()
	})
	return client, server
}

func chainOver(b *testing.B, loop duplextest.Copier, near, far *netstack.Stack) (client, server net.Conn, end func()) {
	client, a := duplextest.TCP(b)
	ma, mb := connect(b, near, far, netstacktest.B4)
	ma.SetDeadline(time.Time{})
	mb.SetDeadline(time.Time{})
	d, server := duplextest.TCP(b)
	var wg sync.WaitGroup
	wg.Go(func() { loop(context.Background(), a, ma, duplex.Options{}) })
	wg.Go(func() { loop(context.Background(), mb, d, duplex.Options{}) })
	return client, server, wg.Wait
}
