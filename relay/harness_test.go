package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/key"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := runChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// childEnv makes the test program a relay and nothing else: a benchmark can
// then see what the relay alone costs. Its value is the service's key and the
// relay's private key.
const childEnv = "RELAY_CHILD"

// runChild is a relay until its standard input ends. It prints its addresses.
func runChild() error {
	issuer, private, _ := strings.Cut(os.Getenv(childEnv), " ")
	service, err := base64.StdEncoding.DecodeString(issuer)
	if err != nil {
		return err
	}
	p, err := key.ParsePrivate(private)
	if err != nil {
		return err
	}
	s, err := NewServer(ServerConfig{
		Private: p, Issuers: []ed25519.PublicKey{service},
		Limits: Limits{DeviceRate: -1, NetworkRate: -1, DevicePackets: -1},
	})
	if err != nil {
		return err
	}
	sockets, err := Listen(context.Background(), "127.0.0.1:0", 2, nil)
	if err != nil {
		return err
	}
	web := httptest.NewUnstartedServer(s)
	web.StartTLS()
	defer web.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	plain, err := tls.Listen("tcp", "127.0.0.1:0", web.TLS)
	if err != nil {
		return err
	}
	defer plain.Close()
	go copyPairs(plain)
	fmt.Println(sockets[0].LocalAddr(), web.URL, plain.Addr())
	return s.Run(ctx, sockets...)
}

const patience = 20 * time.Second

// service signs credentials.
type service struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

func newService(t testing.TB) service {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return service{priv, pub}
}

func (s service) credential(device key.Public, network string, life time.Duration) []byte {
	return Credential{Device: device, Network: NetworkOf(network), Expires: time.Now().Add(life)}.Sign(s.private)
}

// copyPairs is what a relay is compared with: it copies from each first
// connection to the next, and knows no frames.
func copyPairs(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		go from.(*tls.Conn).Handshake() // else at the first read
		to, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer to.Close()
			defer from.Close()
			to.Write([]byte{0})
			io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, writeChunk))
		}()
	}
}

// testRelay is a server on loopback, by UDP and by WebSocket over TLS.
type testRelay struct {
	t       testing.TB
	service service
	private key.Private
	limits  Limits
	clock   func() time.Time
	other   func(*Socket, []byte, netip.AddrPort)

	server  *Server
	sockets []*Socket
	udp     netip.AddrPort
	web     *httptest.Server
	url     string                 // of another server with web's certificate; empty: web's
	front   atomic.Pointer[Server] // what web serves
	cancel  context.CancelFunc
	done    chan error
}

func newRelay(t testing.TB, change ...func(*testRelay)) *testRelay {
	t.Helper()
	r := &testRelay{t: t, service: newService(t), private: key.NewPrivate()}
	for _, c := range change {
		c(r)
	}
	r.web = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s := r.front.Load()
		if s == nil {
			http.Error(w, "no relay", http.StatusServiceUnavailable)
			return
		}
		s.ServeHTTP(w, req)
	}))
	r.web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	r.web.StartTLS()
	r.start("127.0.0.1:0")
	t.Cleanup(func() {
		r.stop()
		r.web.Close()
	})
	return r
}

// start runs a server on a UDP address.
func (r *testRelay) start(address string) {
	r.t.Helper()
	var log *slog.Logger
	if os.Getenv("RELAY_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := NewServer(ServerConfig{
		Private: r.private, Issuers: []ed25519.PublicKey{r.service.public}, Limits: r.limits,
		Other: r.other, Log: log, clock: r.clock,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	sockets, err := Listen(context.Background(), address, 2, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.server, r.sockets, r.cancel, r.done = s, sockets, cancel, make(chan error, 1)
	r.udp = netip.MustParseAddrPort(sockets[0].LocalAddr().String())
	go func(done chan error) { done <- s.Run(ctx, sockets...) }(r.done)
	waitFor(r.t, "the relay to run", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.running
	})
	r.front.Store(s)
}

func (r *testRelay) stop() {
	if r.cancel == nil {
		return
	}
	r.front.Store(nil)
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.cancel = nil
}

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
		Deliver: func(peer key.Public, packet []byte) {
			select {
			case n.got <- gotPacket{peer, string(packet)}:
			default: // nobody reads: Run must still end
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

// hearsNothing says whether nothing but what is known came until the relay
// counted something.
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
