package relay

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nexd/key"
)

// testPool is a pool with a socket of its own.
type testPool struct {
	t testing.TB
	*Pool
	private  key.Private
	conn     *net.UDPConn
	got      chan poolPacket
	presence chan poolPresence
	changes  chan struct{}
	cancel   context.CancelFunc
	done     chan error

	mu    sync.Mutex // guards the field below
	delay map[netip.AddrPort]time.Duration
	mute  atomic.Bool          // its UDP goes nowhere
	heard func(netip.AddrPort) // is told whom each datagram came from; may be nil
}

type poolPacket struct {
	relay uint16
	from  key.Public
	text  string
	tls   bool
}

type poolPresence struct {
	relay uint16
	peer  key.Public
	here  bool
}

// info is what a service would say of the relay.
func (r *testRelay) info(id string) Info {
	return Info{
		ID: id, Name: id, Key: r.private.Public(), UDP: []string{r.udp.String()}, URL: r.web.URL,
		TLS: r.web.Client().Transport.(*http.Transport).TLSClientConfig,
	}
}

// sharing makes a relay of the same service as another.
func sharing(s service) func(*testRelay) { return func(r *testRelay) { r.service = s } }

// newPool starts a pool in network "net" of a service, without relays.
func newPool(t testing.TB, s service, change ...func(*Pool, *testPool)) *testPool {
	t.Helper()
	n := &testPool{
		t: t, private: key.NewPrivate(), got: make(chan poolPacket, 4096), presence: make(chan poolPresence, 64),
		changes: make(chan struct{}, 1), done: make(chan error, 1), delay: map[netip.AddrPort]time.Duration{},
	}
	credential := s.credential(n.private.Public(), "net", time.Hour)
	cfg := PoolConfig{
		Private: n.private, WriteUDP: n.write, Credential: func() []byte { return credential },
		Deliver: func(relay uint16, peer key.Public, packet []byte) {
			n.take(poolPacket{relay, peer, string(packet), true})
		},
		OnChange: func() {
			select {
			case n.changes <- struct{}{}:
			default:
			}
		},
		OnPresence: func(relay uint16, peer key.Public, here bool) {
			select {
			case n.presence <- poolPresence{relay, peer, here}:
			default:
			}
		},
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}
	if os.Getenv("RELAY_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	p, err := NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Pool = p
	if n.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(p, n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.done <- p.Run(ctx) }()
	go n.read()
	t.Cleanup(n.stop)
	return n
}

func (n *testPool) take(p poolPacket) {
	select {
	case n.got <- p:
	default: // nobody reads: Run must still end
	}
}

func (n *testPool) read() {
	b := make([]byte, 64<<10)
	for {
		k, from, err := n.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if n.mute.Load() {
			continue
		}
		if relay, peer, packet, ok := n.HandleUDP(b[:k], from); ok {
			n.take(poolPacket{relay, peer, string(packet), false})
		}
		if n.heard != nil {
			n.heard(from)
		}
	}
}

func (n *testPool) write(packets [][]byte, to netip.AddrPort) error {
	if n.mute.Load() {
		return nil
	}
	n.mu.Lock()
	delay := n.delay[to]
	n.mu.Unlock()
	for _, p := range packets {
		if delay == 0 {
			if _, err := n.conn.WriteToUDPAddrPort(p, to); err != nil {
				return err
			}
			continue
		}
		late := append([]byte(nil), p...)
		time.AfterFunc(delay, func() { n.conn.WriteToUDPAddrPort(late, to) })
	}
	return nil
}

// far puts a relay at a distance by UDP.
func (n *testPool) far(r *testRelay, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay[r.udp] = d
}

func (n *testPool) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	if err := <-n.done; err != nil {
		n.t.Errorf("pool Run: %v", err)
	}
	n.cancel = nil
	n.conn.Close()
}

// of returns the status of a relay by its id.
func (n *testPool) of(id string) PoolStatus {
	for _, s := range n.Status() {
		if s.ID == id {
			return s
		}
	}
	return PoolStatus{}
}

func (n *testPool) waitStatus(id, what string, ok func(PoolStatus) bool) {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok(n.of(id)) {
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain for %s of %s; %+v", what, id, n.Status())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// uses asks for a session until it is there: on a slow machine that takes longer
// than a test's session on demand lasts.
func (n *testPool) uses(number uint16, id string) {
	n.t.Helper()
	n.waitStatus(id, "a session by UDP", func(s PoolStatus) bool { n.Use(number); return s.Transport == UDP })
}

func (n *testPool) connected(id string, by Transport) {
	n.t.Helper()
	n.waitStatus(id, "a session by "+by.String(), func(s PoolStatus) bool { return s.Transport == by })
}

// waitHomes waits until these are published.
func (n *testPool) waitHomes(ids ...string) {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := n.Homes()
		if len(got) == len(ids) {
			same := true
			for i := range ids {
				same = same && (ids[i] == "" || ids[i] == got[i])
			}
			if same {
				return
			}
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("homes %v, want %v; %+v", got, ids, n.Status())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// reaches sends through a relay until the packet arrives.
func (n *testPool) reaches(to *testPool, relay uint16, what string) poolPacket {
	n.t.Helper()
	want := string(text(what))
	deadline := time.After(patience)
	for {
		n.Send(relay, to.private.Public(), [][]byte{text(what)})
		again := time.After(20 * time.Millisecond)
	wait:
		for {
			select {
			case p := <-to.got:
				if p.text == want && p.from == n.private.Public() {
					return p
				}
			case <-again:
				break wait
			case <-deadline:
				n.t.Fatalf("%q did not arrive; %+v and %+v", what, n.Status(), to.Status())
			}
		}
	}
}

// relays starts so many relays of one service, called r1, r2, …
func relays(t testing.TB, n int) (all []*testRelay, list []Info) {
	t.Helper()
	s := newService(t)
	for i := range n {
		r := newRelay(t, sharing(s))
		all = append(all, r)
		list = append(list, r.info("r"+strconv.Itoa(i+1)))
	}
	return all, list
}
