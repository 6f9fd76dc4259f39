package tunnel_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.zx2c4.com/wireguard/tun"

	"nexd/bind"
	"nexd/key"
	"nexd/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually is how long a test waits for what must happen.
const eventually = 20 * time.Second

// fakeDevice is a tun.Device of channels: packets put into out leave through
// the tunnel, packets that came out of it are in in.
type fakeDevice struct {
	out, in chan []byte
	events  chan tun.Event
	closed  chan struct{}
	once    sync.Once
}

func newFakeDevice() *fakeDevice {
	return &fakeDevice{
		out:    make(chan []byte, 1024),
		in:     make(chan []byte, 4096),
		events: make(chan tun.Event, 4),
		closed: make(chan struct{}),
	}
}

func (d *fakeDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case pkt := <-d.out:
		n := 0
		for {
			sizes[n] = copy(bufs[n][offset:], pkt)
			n++
			if n == len(bufs) {
				return n, nil
			}
			select {
			case pkt = <-d.out:
			default:
				return n, nil
			}
		}
	case <-d.closed:
		return 0, os.ErrClosed
	}
}

func (d *fakeDevice) Write(bufs [][]byte, offset int) (int, error) {
	for i, b := range bufs {
		select {
		case d.in <- append([]byte(nil), b[offset:]...):
		case <-d.closed:
			return i, os.ErrClosed
		}
	}
	return len(bufs), nil
}

func (d *fakeDevice) File() *os.File           { return nil }
func (d *fakeDevice) MTU() (int, error)        { return 1280, nil }
func (d *fakeDevice) Name() (string, error)    { return "fake", nil }
func (d *fakeDevice) Events() <-chan tun.Event { return d.events }
func (d *fakeDevice) BatchSize() int           { return 128 }

func (d *fakeDevice) Close() error {
	d.once.Do(func() {
		close(d.closed)
		close(d.events)
	})
	return nil
}

// node is one end of a test's mesh.
type node struct {
	*tunnel.Tunnel
	t       *testing.T
	key     key.Public
	private key.Private
	addr    netip.Addr
	addr6   netip.Addr
	dev     *fakeDevice
	bind    *bind.Bind
	noPath  chan key.Public
	changes chan string // "+" or "-" and a key, from OnActivate and OnDeactivate
	hears   atomic.Bool // what the bind hears of activates members
}

// newNode starts node number n; change may alter its configuration.
func newNode(t *testing.T, n byte, change ...func(*tunnel.Config)) *node {
	t.Helper()
	private := key.NewPrivate()
	nd := &node{
		t:       t,
		key:     private.Public(),
		private: private,
		addr:    netip.AddrFrom4([4]byte{100, 64, 0, n}),
		addr6:   netip.AddrFrom16([16]byte{0: 0xfd, 15: n}),
		dev:     newFakeDevice(),
		noPath:  make(chan key.Public, 1024),
		changes: make(chan string, 1024),
	}
	nd.bind = bind.New(bind.Config{
		OnNoPath: func(p key.Public) {
			select {
			case nd.noPath <- p:
			default:
			}
		},
		OnHeard: func(p key.Public) {
			if nd.hears.Load() {
				nd.Activate(p)
			}
		},
	})
	cfg := tunnel.Config{
		Private:      private,
		Device:       nd.dev,
		Bind:         nd.bind,
		OnActivate:   func(p key.Public) { nd.changes <- "+" + p.Hex() },
		OnDeactivate: func(p key.Public) { nd.changes <- "-" + p.Hex() },
	}
	for _, f := range change {
		f(&cfg)
	}
	tn, err := tunnel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	nd.Tunnel = tn
	if err := tn.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tn.Close() })
	return nd
}

// peer is the node as a row of somebody's table.
func (n *node) peer() tunnel.Peer {
	return tunnel.Peer{Key: n.key, Addresses: []netip.Addr{n.addr, n.addr6}}
}

func (n *node) socket() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.bind.Port())
}

// know puts the others into n's table; find gives n paths to them.
func (n *node) know(others ...*node) {
	var peers []tunnel.Peer
	for _, o := range others {
		peers = append(peers, o.peer())
	}
	n.SetPeers(peers)
}

func (n *node) find(others ...*node) {
	for _, o := range others {
		n.bind.SetRoute(o.key, bind.Route{Path: o.socket()})
	}
}

// pair returns two nodes that know each other and have paths; the second one
// has heard of the first.
func pair(t *testing.T, change ...func(*tunnel.Config)) (a, b *node) {
	t.Helper()
	a, b = newNode(t, 1, change...), newNode(t, 2, change...)
	a.know(b)
	b.know(a)
	b.Activate(a.key)
	a.find(b)
	b.find(a)
	return a, b
}

// send puts a UDP packet with a number into the tunnel.
func (n *node) send(to netip.Addr, number uint32) {
	from := n.addr
	if to.Is6() {
		from = n.addr6
	}
	n.dev.out <- udpPacket(from, to, number)
}

// expect waits for the packet with a number and ignores others.
func (n *node) expect(number uint32) {
	n.t.Helper()
	timeout := time.After(eventually)
	for {
		select {
		case pkt := <-n.dev.in:
			if got, ok := packetNumber(pkt); ok && got == number {
				return
			}
		case <-timeout:
			n.t.Fatalf("packet %d did not arrive", number)
		}
	}
}

func (n *node) expectChange(want string) {
	n.t.Helper()
	select {
	case got := <-n.changes:
		if got != want {
			n.t.Fatalf("change %.9s, want %.9s", got, want)
		}
	case <-time.After(eventually):
		n.t.Fatalf("no change %.9s", want)
	}
}

func (n *node) quiet() {
	n.t.Helper()
	select {
	case got := <-n.changes:
		n.t.Fatalf("unexpected change %.9s", got)
	default:
	}
}

// exchange sends a packet each way and waits for both.
func exchange(a, b *node, number uint32) {
	a.t.Helper()
	a.send(b.addr, number)
	b.expect(number)
	b.send(a.addr6, number+1)
	// The answer's destination is a's other address.
	a.expect(number + 1)
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), eventually)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(what)
		}
	}
}

// udpPacket is an IP packet with a UDP datagram that carries a number.
func udpPacket(from, to netip.Addr, number uint32) []byte {
	udp := make([]byte, 12)
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], 2000)
	binary.BigEndian.PutUint16(udp[4:], 12)
	binary.BigEndian.PutUint32(udp[8:], number)
	return ipPacket(from, to, 17, udp)
}

func ipPacket(from, to netip.Addr, proto byte, payload []byte) []byte {
	if to.Is4() {
		p := make([]byte, 20, 20+len(payload))
		p[0], p[8], p[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(p[2:], uint16(20+len(payload)))
		copy(p[12:], from.AsSlice())
		copy(p[16:], to.AsSlice())
		return append(p, payload...)
	}
	p := make([]byte, 40, 40+len(payload))
	p[0], p[6], p[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	copy(p[8:], from.AsSlice())
	copy(p[24:], to.AsSlice())
	return append(p, payload...)
}

func packetNumber(pkt []byte) (uint32, bool) {
	at := 28
	if pkt[0]>>4 == 6 {
		at = 48
	}
	if len(pkt) != at+4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(pkt[at:]), true
}

// intruder is a socket that sends to a node what it likes.
func intruder(t *testing.T, to *node) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to.socket()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func handshakes(n *node, peer key.Public) string {
	return fmt.Sprint(n.Stats()[peer].LastHandshake.UnixNano())
}
