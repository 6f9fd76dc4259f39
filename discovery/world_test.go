package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"nexd/internal/relaypath"
	"nexd/internal/stunwire"
	"nexd/key"
	"nexd/test/simnet"
)

// world is a service, two STUN servers and the nodes of a test, on a simulated
// network inside a synctest bubble.
type world struct {
	t     *testing.T
	net   *simnet.Net
	stun  []string
	mu    sync.Mutex // guards the fields below
	nodes map[key.Public]*simNode
	down  bool // the service
	// relays that are up, by number; all nodes have a session with each.
	relays map[uint16]bool
}

var meshRange = netip.MustParsePrefix("100.64.0.0/10")

// inWorld runs a test in a bubble; all nodes end with it.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(10 * time.Millisecond), nodes: make(map[key.Public]*simNode), relays: make(map[uint16]bool)}
		w.stunServer("198.51.100.1")
		w.stunServer("198.51.100.2")
		f(t, w)
		for _, n := range w.nodes {
			n.stop()
			if n.punch != nil {
				n.punch.close()
			}
		}
		time.Sleep(time.Second) // packets in flight
	})
}

func (w *world) stunServer(ip string) *simnet.Host {
	site := w.net.NewSite(ip, simnet.NAT{Public: true, Open: true})
	var h *simnet.Host
	h = site.NewHost(ip+":3478", func(b []byte, from netip.AddrPort) {
		if m, err := stunwire.Parse(b); err == nil && m.Class == stunwire.Request {
			h.Send(stunwire.AppendSuccess(nil, m.ID, from, true), from)
		}
	})
	w.stun = append(w.stun, ip+":3478")
	return h
}

func (w *world) serviceDown(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

// simNode is an agent with its host, and data traffic in place of WireGuard.
type simNode struct {
	w       *world
	private key.Private
	pub     key.Public
	host    *simnet.Host
	agent   *Agent
	punch   *puncher // nil: the ports of hard NATs are not guessed
	cancel  context.CancelFunc
	done    chan error

	mu        sync.Mutex // guards the fields below
	addrs     []localAddr
	paths     map[key.Public]route
	drops     int // times a path was taken away
	doubled   int // packets sent twice
	changes   int
	sent      map[key.Public]time.Time
	received  map[key.Public]time.Time // from the path
	relayed   map[key.Public]relayedAt
	heard     map[key.Public]time.Time // from anywhere
	gap       time.Duration            // longest silence while talked to
	activated int
	hints     []Hint
	link      int // the MTU of its interface; 0: any
	mtus      map[key.Public][]mtuAt
	large     map[key.Public]time.Time
	onData    func(from key.Public) // is called for large packets
}

// mtuAt is what the agent told of a peer's packets.
type mtuAt struct {
	mtu int
	at  time.Time
}

// sizeUDP4 is what IPv4 and UDP add to a datagram.
const sizeUDP4 = 28

type relayedAt struct {
	relay uint16
	at    time.Time
}

var relayKeys = func() (keys [16]key.Public) {
	for i := range keys {
		keys[i] = key.NewPrivate().Public()
	}
	return keys
}()

type option func(*Config)

// node adds a node at addr of a site. All nodes are members of each other.
func (w *world) node(site *simnet.Site, addr string, options ...option) *simNode {
	n := &simNode{w: w, private: key.NewPrivate()}
	n.pub = n.private.Public()
	n.host = site.NewHost(addr, n.deliver)
	n.setAddrs(addr)
	n.start(options...)
	return n
}

func (n *simNode) setAddrs(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = nil
	for _, a := range addrs {
		ap := netip.MustParseAddrPort(a)
		bits := 24
		if ap.Addr().Is6() {
			bits = 64
		}
		n.addrs = append(n.addrs, localAddr{prefix: netip.PrefixFrom(ap.Addr(), bits)})
	}
}

func (n *simNode) start(options ...option) {
	n.mu.Lock()
	n.paths, n.sent = make(map[key.Public]route), make(map[key.Public]time.Time)
	n.relayed = make(map[key.Public]relayedAt)
	n.mtus, n.large = make(map[key.Public][]mtuAt), make(map[key.Public]time.Time)
	n.received, n.heard = make(map[key.Public]time.Time), make(map[key.Public]time.Time)
	n.mu.Unlock()
	c := Config{
		Private: n.private, Socket: n, Paths: n, Signal: n.signal, Activity: n.activity, STUN: n.w.stun,
		Activate: func(key.Public) { n.mu.Lock(); n.activated++; n.mu.Unlock() },
		Exclude:  meshRange.Contains,
		MaxMTU:   topMTU, OnMTU: n.setMTU,
		OnHints: func(h []Hint) { n.mu.Lock(); n.hints = h; n.mu.Unlock() },
	}
	for _, o := range options {
		o(&c)
	}
	agent := New(c)
	agent.interfaces = func(func(netip.Addr) bool) ([]localAddr, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.addrs, nil
	}
	if n.punch != nil {
		n.punch.install(agent)
	}
	n.mu.Lock()
	n.agent = agent
	n.mu.Unlock()
	n.w.mu.Lock()
	n.w.nodes[n.pub] = n
	var all []Peer
	for k := range n.w.nodes {
		all = append(all, Peer{Key: k})
	}
	for _, x := range n.w.nodes {
		x.current().SetPeers(all)
	}
	n.w.mu.Unlock()
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	n.done = make(chan error, 1)
	go func() { n.done <- agent.Run(ctx) }()
}

// current is the agent of the node's present life.
func (n *simNode) current() *Agent {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.agent
}

// path is what the agent last told.
func (n *simNode) path(peer *simNode) netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.paths[peer.pub].path
}

func (n *simNode) stop() {
	n.cancel()
	if err := <-n.done; err != nil {
		n.w.t.Errorf("Run: %v", err)
	}
	n.done <- nil
}

func (n *simNode) Port() uint16                                { return n.host.Addr().Port() }
func (n *simNode) WriteSTUN(b []byte, to netip.AddrPort) error { return n.write(b, to) }

// WriteWhole fails where the node's own interface is too small.
func (n *simNode) WriteWhole(b []byte, peer key.Public, to netip.AddrPort) error {
	n.mu.Lock()
	fits := n.link == 0 || len(b)+sizeUDP4 <= n.link
	n.mu.Unlock()
	switch r := relaypath.Number(to); {
	case !fits:
		return syscall.EMSGSIZE
	case r != 0:
		return n.WriteRelay(r, peer, b)
	}
	return n.write(b, to)
}

// write sends from the socket that reaches an address.
func (n *simNode) write(b []byte, to netip.AddrPort) error {
	if n.punch != nil {
		return n.punch.write(b, to)
	}
	return n.host.Send(b, to)
}

func (n *simNode) SetRoute(peer key.Public, path, spare netip.AddrPort, both bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if path != n.paths[peer].path {
		if n.changes++; !path.IsValid() {
			n.drops++
		}
		n.received[peer] = time.Time{}
	}
	n.paths[peer] = route{path, spare, both}
}

func (n *simNode) activity(peer key.Public) Activity {
	n.mu.Lock()
	defer n.mu.Unlock()
	by := n.relayed[peer]
	return Activity{Sent: n.sent[peer], Received: n.received[peer], Large: n.large[peer], Relay: by.relay, RelayAt: by.at}
}

func (n *simNode) WriteRelay(relay uint16, peer key.Public, b []byte) error {
	n.w.mu.Lock()
	up, x := n.w.relays[relay], n.w.nodes[peer]
	n.w.mu.Unlock()
	if !up || x == nil {
		return errors.New("no session")
	}
	b = bytes.Clone(b)
	time.AfterFunc(2*n.w.net.Delay, func() {
		n.w.mu.Lock()
		up := n.w.relays[relay]
		n.w.mu.Unlock()
		switch {
		case !up:
		case b[0] == relaypath.Offer:
			x.current().HandleOffer(relay, n.pub, b[1:])
		default:
			x.deliver(b, relaypath.Addr(relay))
		}
	})
	return nil
}

// setRelay starts and ends a relay; known: the nodes are told of its end.
func (w *world) setRelay(relay uint16, up, known bool) {
	w.mu.Lock()
	w.relays[relay] = up
	nodes := slices.Collect(maps.Values(w.nodes))
	var list []Relay
	for n, up := range w.relays {
		list = append(list, Relay{Number: n, Name: fmt.Sprint("r", n), Key: relayKeys[n], Up: up, Own: true})
	}
	w.mu.Unlock()
	slices.SortFunc(list, func(a, b Relay) int { return int(a.Number) - int(b.Number) })
	if known {
		for _, n := range nodes {
			n.current().SetRelays(list)
		}
	}
}

// send sends to an address or through a relay.
func (n *simNode) send(peer key.Public, b []byte, to netip.AddrPort) {
	if r := relaypath.Number(to); r != 0 {
		n.WriteRelay(r, peer, b)
	} else if to.IsValid() {
		n.write(b, to)
	}
}

func (n *simNode) signal(_ context.Context, to key.Public, sealed []byte) error {
	time.Sleep(n.w.net.Delay)
	n.w.mu.Lock()
	x, down := n.w.nodes[to], n.w.down
	n.w.mu.Unlock()
	if down || x == nil {
		return errors.New("not delivered")
	}
	time.Sleep(n.w.net.Delay)
	x.current().HandleSignal(n.pub, sealed)
	return nil
}

func (n *simNode) deliver(b []byte, from netip.AddrPort) {
	if stunwire.Is(b) {
		n.current().HandleSTUN(b, from)
		return
	}
	peer, err := key.PublicFromBytes(b[4:36])
	if err != nil {
		return
	}
	n.mu.Lock()
	onData := n.onData
	n.mu.Unlock()
	if onData != nil && len(b) > 1000 {
		onData(peer)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if last := n.heard[peer]; !last.IsZero() {
		n.gap = max(n.gap, now.Sub(last))
	}
	n.heard[peer] = now
	if r := relaypath.Number(from); r != 0 {
		n.relayed[peer] = relayedAt{r, now}
	}
	if !n.paths[peer].path.IsValid() {
		go n.agent.Want(peer) // to answer
	}
	if n.paths[peer].path == from {
		n.received[peer] = now
	}
}

// talk sends a datagram to the peer each 20 ms for d, as WireGuard would.
func (n *simNode) talk(peer *simNode, d time.Duration) {
	data := append([]byte{4, 0, 0, 0}, n.pub.Bytes()...)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		n.mu.Lock()
		to := n.paths[peer.pub]
		if to.path.IsValid() {
			n.sent[peer.pub] = time.Now()
		}
		n.mu.Unlock()
		n.send(peer.pub, data, to.path)
		if to.both {
			n.doubled++
			n.send(peer.pub, data, to.spare)
		}
		if !to.path.IsValid() {
			n.agent.Want(peer.pub)
		}
	}
}

// converse lets both talk to each other for d.
func converse(a, b *simNode, d time.Duration) {
	var both sync.WaitGroup
	both.Go(func() { a.talk(b, d) })
	both.Go(func() { b.talk(a, d) })
	both.Wait()
}

// resetGap begins to measure silence anew and returns the longest so far.
func (n *simNode) resetGap() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.gap
	n.gap = 0
	return g
}

// direct waits until n has a path to the peer and returns how long that took.
func (n *simNode) direct(peer *simNode, within time.Duration) time.Duration {
	n.w.t.Helper()
	began := time.Now()
	for time.Since(began) < within {
		if p := n.agent.Peer(peer.pub); p.State == Direct {
			return time.Since(began)
		}
		time.Sleep(5 * time.Millisecond)
	}
	n.w.t.Fatalf("no path after %s: %+v, NAT %+v, stats %+v", within, n.agent.Peer(peer.pub), n.agent.NAT(), n.agent.Stats())
	return 0
}

var (
	fullCone       = simnet.NAT{}
	portRestricted = simnet.NAT{Filtering: simnet.AddressAndPort}
	symmetric      = simnet.NAT{Mapping: simnet.AddressAndPort, Filtering: simnet.AddressAndPort}
	firewall       = simnet.NAT{Public: true, Filtering: simnet.AddressAndPort}
	public         = simnet.NAT{Public: true, Open: true}
)
