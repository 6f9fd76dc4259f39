package relay

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nexd/key"
)

// testNode is a client with a socket of its own.
type testNode struct {
	t       testing.TB
	private key.Private
	*Client
	mu       sync.Mutex
	conn     *net.UDPConn
	local    string      // where its socket is bound
	mute     atomic.Bool // its UDP goes nowhere
	cred     atomic.Pointer[[]byte]
	got      chan gotPacket
	presence chan gotPresence
	status   chan Status
	cancel   context.CancelFunc
	done     chan error
}

type gotPacket struct {
	from key.Public
	text string
}

type gotPresence struct {
	peer key.Public
	what Presence
}

type nodeOption func(*testNode, *ClientConfig)

func onlyUDP(_ *testNode, c *ClientConfig)  { c.URL = "" }
func onlyTLS(_ *testNode, c *ClientConfig)  { c.UDP = nil }
func mutedUDP(n *testNode, _ *ClientConfig) { n.mute.Store(true) }

func withCredential(b []byte) nodeOption {
	return func(n *testNode, _ *ClientConfig) { n.cred.Store(&b) }
}

func withProxy(u *url.URL) nodeOption {
	return func(_ *testNode, c *ClientConfig) { c.Proxy = http.ProxyURL(u) }
}

func withURL(u string, pool *tls.Config) nodeOption {
	return func(_ *testNode, c *ClientConfig) { c.URL, c.TLS = u, pool }
}

func withKey(p key.Private) nodeOption {
	return func(n *testNode, c *ClientConfig) { n.private, c.Private = p, p }
}

// node starts a client of network at the relay.
func (r *testRelay) node(network string, options ...nodeOption) *testNode {
	r.t.Helper()
	n := &testNode{
		t: r.t, local: "127.0.0.1:0", private: key.NewPrivate(), got: make(chan gotPacket, 4096),
		presence: make(chan gotPresence, 64), status: make(chan Status, 64), done: make(chan error, 1),
	}
	transport := r.web.Client().Transport.(*http.Transport)
	cfg := ClientConfig{
		Private: n.private, Relay: r.private.Public(), UDP: []string{r.udp.String()}, URL: r.web.URL,
		TLS:   transport.TLSClientConfig.Clone(),
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		Deliver: func(peer key.Public, packets [][]byte) {
			for _, packet := range packets {
				select {
				case n.got <- gotPacket{peer, string(packet)}:
				default: // nobody reads: Run must still end
				}
			}
		},
		OnPresence: func(peer key.Public, what Presence) {
			select {
			case n.presence <- gotPresence{peer, what}:
			default:
			}
		},
		OnStatus: func(s Status) {
			select {
			case n.status <- s:
			default:
			}
		},
	}
	if os.Getenv("RELAY_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, o := range options {
		o(n, &cfg)
	}
	if n.cred.Load() == nil {
		b := r.service.credential(n.private.Public(), network, time.Hour)
		n.cred.Store(&b)
	}
	cfg.Credential = func() []byte { return *n.cred.Load() }
	cfg.WriteUDP = n.write
	c, err := NewClient(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	n.Client = c
	n.listen()
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.done <- c.Run(ctx) }()
	r.t.Cleanup(n.stop)
	return n
}

func (n *testNode) public() key.Public { return n.private.Public() }

// listen gives the node a new socket: what a NAT does to it.
func (n *testNode) listen() {
	n.t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(n.local)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	before := n.conn
	n.conn = conn
	n.mu.Unlock()
	if before != nil {
		before.Close()
	}
	go func() {
		b := make([]byte, 64<<10)
		for {
			k, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if n.mute.Load() {
				continue
			}
			if peer, packet, ok := n.HandleUDP(b[:k], from); ok {
				n.got <- gotPacket{peer, string(packet)}
			}
		}
	}()
}

func (n *testNode) socket() *net.UDPConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn
}

func (n *testNode) write(packets [][]byte, to netip.AddrPort) error {
	if n.mute.Load() {
		return nil
	}
	for _, p := range packets {
		if _, err := n.socket().WriteToUDPAddrPort(p, to); err != nil {
			return err
		}
	}
	return nil
}

func (n *testNode) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	if err := <-n.done; err != nil {
		n.t.Errorf("client Run: %v", err)
	}
	n.cancel = nil
	n.socket().Close()
}

// connected waits until the node has a session by a transport.
func (n *testNode) connected(by Transport) *testNode {
	n.t.Helper()
	waitFor(n.t, "a session by "+by.String(), func() bool { return n.Status().Transport == by })
	return n
}

// text makes a packet as long as WireGuard's shortest.
func text(s string) []byte { return []byte(s + strings.Repeat(".", max(0, 32-len(s)))) }

// reaches sends until the packet arrives: the relay promises no more.
func (n *testNode) reaches(to *testNode, what string) {
	n.t.Helper()
	want := gotPacket{n.public(), string(text(what))}
	deadline := time.After(patience)
	for {
		n.Send(to.public(), [][]byte{text(what)})
		again := time.After(50 * time.Millisecond)
	wait:
		for {
			select {
			case p := <-to.got:
				if p == want {
					return
				}
			case <-again:
				break wait
			case <-deadline:
				n.t.Fatalf("%q did not arrive; status %+v and %+v, stats %+v and %+v", what, n.Status(), to.Status(), n.Stats(), to.Stats())
			}
		}
	}
}

// drained takes what has come and returns it.
func (n *testNode) drained() (out []gotPacket) {
	for {
		select {
		case p := <-n.got:
			out = append(out, p)
		default:
			return out
		}
	}
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// agreed waits until a node sends to another by a channel.
func (n *testNode) agreed(with *testNode) {
	n.t.Helper()
	waitFor(n.t, "a channel", func() bool {
		u := n.up.Load()
		n.Send(with.public(), [][]byte{text("hello")})
		return u != nil && n.peers.get(with.public()).agreed.Load() == u.generation
	})
}

func contains(got []gotPacket, what string) bool {
	return slices.ContainsFunc(got, func(p gotPacket) bool { return strings.HasPrefix(p.text, what) })
}

func says(err error, what string) bool {
	return err != nil && strings.Contains(err.Error(), what)
}
