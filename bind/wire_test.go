package bind

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"nexd/key"
)

// wire joins two sockets in memory. Each datagram takes delay; those that lose
// says are lost.
type wire struct {
	delay time.Duration
	lose  func(from int, pkt []byte) bool
	ends  [2]*wireEnd

	mu       sync.Mutex
	messages map[byte]map[string]int // by type: how often each one was sent
}

type wireEnd struct {
	fakeSocket
	wire   *wire
	number int
	addr   netip.AddrPort
	in     chan []byte

	mu     sync.Mutex
	closed chan struct{}
}

func newWire(delay time.Duration, lose func(from int, pkt []byte) bool) *wire {
	w := &wire{delay: delay, lose: lose, messages: map[byte]map[string]int{}}
	for i := range w.ends {
		w.ends[i] = &wireEnd{wire: w, number: i, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 1000), in: make(chan []byte, 256)}
	}
	return w
}

func (e *wireEnd) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	closed := make(chan struct{})
	e.closed = closed
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case pkt := <-e.in:
			sizes[0] = copy(bufs[0], pkt)
			eps[0] = &conn.StdNetEndpoint{AddrPort: e.wire.ends[1-e.number].addr}
			return 1, nil
		case <-closed:
			return 0, net.ErrClosed
		}
	}}, 1000, nil
}

func (e *wireEnd) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed != nil {
		close(e.closed)
		e.closed = nil
	}
	return nil
}

// BatchSize is small: WireGuard has a buffer of 64 KiB for each packet.
func (e *wireEnd) BatchSize() int { return 2 }

func (e *wireEnd) SetMark(uint32) error { return nil }

func (e *wireEnd) Send(bufs [][]byte, _ conn.Endpoint) error {
	for _, b := range bufs {
		pkt := bytes.Clone(b)
		e.wire.note(pkt)
		if e.wire.lose != nil && e.wire.lose(e.number, pkt) {
			continue
		}
		other := e.wire.ends[1-e.number]
		arrive := func() {
			select {
			case other.in <- pkt:
			default:
			}
		}
		if e.wire.delay == 0 {
			arrive()
		} else {
			time.AfterFunc(e.wire.delay, arrive)
		}
	}
	return nil
}

func (w *wire) note(pkt []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.messages[pkt[0]]
	if m == nil {
		m = map[string]int{}
		w.messages[pkt[0]] = m
	}
	m[string(pkt)]++
}

// sent returns how many messages of a type there were, and how many datagrams.
func (w *wire) sent(kind byte) (messages, datagrams int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.messages[kind] {
		messages++
		datagrams += n
	}
	return messages, datagrams
}

// mesh is two WireGuard devices on a wire.
type mesh struct {
	t     *testing.T
	wire  *wire
	binds [2]*Bind
	devs  [2]*device.Device
	tuns  [2]*tuntest.ChannelTUN
	addrs [2]netip.Addr
	keys  [2]key.Public

	mu    sync.Mutex
	lines []string
}

// kept holds WireGuard's devices and peers until the tests end: their
// finalizers empty channels, which only the test's own goroutines may do once
// they were made in simulated time.
var kept []any

func newMesh(t *testing.T, w *wire, spare bool) *mesh {
	m := &mesh{t: t, wire: w}
	var private [2]key.Private
	for i := range private {
		private[i] = key.NewPrivate()
		m.keys[i] = private[i].Public()
		m.addrs[i] = netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)})
	}
	log := func(format string, args ...any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lines = append(m.lines, fmt.Sprintf(format, args...))
	}
	for i := range m.devs {
		peer := m.keys[1-i]
		m.binds[i] = newBind(Config{}, w.ends[i])
		m.tuns[i] = tuntest.NewChannelTUN()
		m.devs[i] = device.NewDevice(m.tuns[i].TUN(), m.binds[i], &device.Logger{Verbosef: log, Errorf: log})
		m.devs[i].DisableSomeRoamingForBrokenMobileSemantics()
		if err := m.devs[i].IpcSet(fmt.Sprintf("private_key=%s\npublic_key=%s\nallowed_ip=%s/32\nendpoint=peer:%s\n",
			private[i].RevealHex(), peer.Hex(), m.addrs[1-i], peer.Hex())); err != nil {
			t.Fatal(err)
		}
		r := Route{Path: w.ends[1-i].addr}
		if spare {
			r.Spare = netip.AddrPortFrom(r.Path.Addr(), 2000) // the wire takes it for the same
		}
		m.binds[i].SetRoute(peer, r)
		if err := m.devs[i].Up(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.devs[i].Close)
		kept = append(kept, m.devs[i], m.devs[i].LookupPeer(device.NoisePublicKey(peer.Bytes())))
	}
	return m
}

func (m *mesh) said(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lines {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

func (m *mesh) send(from int) {
	m.tuns[from].Outbound <- tuntest.Ping(m.addrs[1-from], m.addrs[from])
}

// arrives waits for a packet and fails when it took too long.
func (m *mesh) arrives(at int, since time.Time, limit time.Duration) {
	m.t.Helper()
	late := make(chan struct{})
	timer := time.AfterFunc(20*time.Second, func() { close(late) })
	defer timer.Stop()
	select {
	case <-m.tuns[at].Inbound:
		if took := time.Since(since); took > limit {
			m.t.Errorf("it took %v, want less than %v", took, limit)
		}
	case <-late:
		m.t.Fatal("nothing arrived")
	}
}

// oneHandshake checks that there was exactly one.
func (m *mesh) oneHandshake() {
	m.t.Helper()
	for _, kind := range []byte{typeInitiation, typeResponse} {
		if n, datagrams := m.wire.sent(kind); n != 1 || datagrams > 2*(1+len(repeatAfter)) {
			m.t.Errorf("%d messages of type %d in %d datagrams, want one message", n, kind, datagrams)
		}
	}
	if n := m.said("Received handshake response"); n != 1 {
		m.t.Errorf("%d handshakes were completed, want 1", n)
	}
	if n, _ := m.wire.sent(3); n != 0 {
		m.t.Errorf("%d cookies", n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.lines); n > 150 {
		m.t.Errorf("WireGuard wrote %d lines: %q", n, m.lines)
	}
}

// first returns a loss of the first n datagrams of a type.
func first(kind byte, n int) func(int, []byte) bool {
	var mu sync.Mutex
	return func(_ int, pkt []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if pkt[0] != kind || n == 0 {
			return false
		}
		n--
		return true
	}
}

// soon is 150 ms and some round trips, of simulated time.
const soon = 400 * time.Millisecond

// One datagram that is lost costs 150 ms, not WireGuard's five seconds, and no
// second handshake.
func TestLostHandshakeMessage(t *testing.T) {
	for name, c := range map[string]struct {
		lose  func(int, []byte) bool
		spare bool
	}{
		"nothing is lost":               {nil, false},
		"the initiation":                {first(typeInitiation, 1), false},
		"the response":                  {first(typeResponse, 1), false},
		"the first data":                {first(typeTransport, 1), false},
		"nothing, over two ways":        {nil, true},
		"the response, over both ways":  {first(typeResponse, 2), true},
		"the initiation, over both":     {first(typeInitiation, 2), true},
		"the initiation, over one only": {first(typeInitiation, 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, newWire(10*time.Millisecond, c.lose), c.spare)
				start := time.Now()
				m.send(0)
				m.arrives(1, start, soon)
				start = time.Now()
				m.send(1)
				m.arrives(0, start, soon)
				time.Sleep(10 * time.Second)
				m.oneHandshake()
			})
		})
	}
}

// Handshake messages that come twice at once are taken once: WireGuard's own
// workers would race for them.
func TestCopiesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			m := newMesh(t, newWire(time.Millisecond, nil), true)
			start := time.Now()
			m.send(0)
			m.arrives(1, start, soon)
			m.send(1)
			m.arrives(0, start, soon)
			m.oneHandshake()
			for i, b := range m.binds {
				if n := b.Stats().Copies; n != 1 {
					t.Errorf("%d copies at device %d, want 1", n, i)
				}
			}
		}
	})
}

// Both begin at once: WireGuard would answer both initiations and could use
// neither session.
func TestInitiationsThatCross(t *testing.T) {
	for name, c := range map[string]struct {
		lose  func(int, []byte) bool
		delay time.Duration // one way
		limit time.Duration
	}{
		"nothing is lost": {nil, 30 * time.Millisecond, soon},
		"an initiation":   {first(typeInitiation, 1), 30 * time.Millisecond, soon},
		"the response":    {first(typeResponse, 1), 30 * time.Millisecond, soon},
		"by satellite":    {nil, 600 * time.Millisecond, 4 * 600 * time.Millisecond},
		// The greater initiation may be the one that is not heard for long.
		"four initiations of one side": {func(from int, pkt []byte) bool { return from == 0 && pkt[0] == typeInitiation }, 30 * time.Millisecond, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, newWire(c.delay, c.lose), false)
				start := time.Now()
				m.send(0)
				m.send(1)
				m.arrives(0, start, c.limit)
				m.arrives(1, start, c.limit)
				time.Sleep(10 * time.Second)
				if n := m.said("Received handshake response"); n != 1 {
					t.Errorf("%d handshakes were completed, want 1", n)
				}
				if n, _ := m.wire.sent(typeResponse); n != 1 {
					t.Errorf("%d responses", n)
				}
			})
		})
	}
}

// A receiver under load asks for a cookie: that is an answer, too.
func TestCookieEndsRepeats(t *testing.T) { synctest.Test(t, cookieEndsRepeats) }

func cookieEndsRepeats(t *testing.T) {
	f := &fakeSocket{}
	b := opened(t, f, Config{})
	peer := newPeer()
	setPath(b, peer, here)
	for _, kind := range []byte{typeInitiation, typeResponse} {
		msg := message(kind, 92, 1)
		msg[4] = 77
		b.Send([][]byte{msg}, peerEndpoint(t, b, peer))
		cookie := message(3, 64, 0)
		cookie[4] = 77
		r := &receiver{bind: b}
		r.sort([][]byte{cookie}, []int{64}, []conn.Endpoint{&conn.StdNetEndpoint{AddrPort: there}})
		if n := b.repeats.pending.Load(); n != 0 {
			t.Errorf("type %d: %d messages are still repeated", kind, n)
		}
	}
}
