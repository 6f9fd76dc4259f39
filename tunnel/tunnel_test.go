package tunnel_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/bind"
	"nexd/key"
	"nexd/tunnel"
)

func TestTrafficFlows(t *testing.T) {
	a, b := pair(t)
	start := time.Now()
	exchange(a, b, 1)
	if got := a.LastData(b.key); got.Before(start) || time.Since(got) > time.Minute {
		t.Errorf("last data at %v", got)
	}
	if got := a.LastData(key.NewPrivate().Public()); !got.IsZero() {
		t.Errorf("data of a stranger at %v", got)
	}
	poll(t, "no handshake in the statistics", func() bool {
		s := a.Stats()[b.key]
		return s.Active && s.Rx > 0 && s.Tx > 0 && time.Since(s.LastHandshake) < time.Minute
	})
	if got := a.bind.Activity(b.key); got.LastReceived.Before(start) || got.LastSent.Before(start) {
		t.Errorf("the bind saw nothing: %+v", got)
	}
}

func TestFirstPacketWaitsForThePath(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.know(b)
	b.know(a)
	b.Activate(a.key)
	b.find(a)
	a.send(b.addr, 1)
	select {
	case peer := <-a.noPath:
		if peer != b.key {
			t.Errorf("a path is wanted to %s", peer)
		}
	case <-time.After(eventually):
		t.Fatal("nobody was asked for a path")
	}
	poll(t, "no handshake message is waiting", func() bool { return a.bind.Stats().Held > 0 })
	start := time.Now()
	a.find(b)
	b.expect(1)
	// WireGuard itself would try again after five seconds only.
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("the packet came %v after the path", took)
	} else {
		t.Logf("first packet %v after the path", took)
	}
}

func TestChangeOfPathCostsNoHandshake(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	poll(t, "no handshake", func() bool { return !a.Stats()[b.key].LastHandshake.IsZero() })
	before := handshakes(a, b.key)
	sent, recalled := a.bind.Activity(b.key).TxBytes, a.bind.Stats().Recalled
	six := netip.AddrPortFrom(netip.IPv6Loopback(), b.bind.Port())
	const packets = 200
	for i := range uint32(packets) {
		if i%2 == 0 {
			a.bind.SetRoute(b.key, bind.Route{Path: six})
		} else {
			a.find(b)
		}
		exchange(a, b, 100+2*i)
	}
	if got := a.bind.Path(b.key); got != b.socket() {
		t.Errorf("WireGuard changed the path to %s", got)
	}
	// Every packet is 32 bytes longer outside, padded to 16: no room for a handshake.
	// On a machine that stood still some were sent by the next path once more.
	again := a.bind.Stats().Recalled - recalled
	if got := a.bind.Activity(b.key).TxBytes - sent; got > (packets+again)*(96+32) {
		t.Errorf("%d bytes sent for %d packets and %d again", got, packets, again)
	}
	poll(t, "statistics do not change", func() bool { return a.Stats()[b.key].Tx > sent })
	if after := handshakes(a, b.key); after != before {
		t.Error("the changes of path caused a handshake")
	}
}

func TestMembersAreConfiguredWhenUsed(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.know(b)
	b.know(a)
	a.quiet()
	if s := a.Stats(); len(s) != 0 {
		t.Errorf("statistics of unused members: %v", s)
	}
	a.find(b)
	b.find(a)
	b.Activate(a.key)
	b.Activate(a.key)
	b.Activate(key.NewPrivate().Public())
	b.expectChange("+" + a.key.Hex())
	b.quiet()
	exchange(a, b, 1)
	a.expectChange("+" + b.key.Hex())
	a.quiet()
	if c := a.Counters(); c.Activations != 1 || c.Deactivations != 0 || c.Late != 0 {
		t.Errorf("counters %+v", c)
	}
}

func TestIdleMembersAreForgottenAndComeBack(t *testing.T) {
	short := func(c *tunnel.Config) { c.IdleTimeout = time.Second }
	a, b := newNode(t, 1, short), newNode(t, 2)
	a.know(b)
	b.know(a)
	b.Activate(a.key)
	a.find(b)
	b.find(a)
	exchange(a, b, 1)
	a.expectChange("+" + b.key.Hex())
	a.expectChange("-" + b.key.Hex())
	var old tunnel.PeerStats
	poll(t, "still active in the statistics, or the counters are gone", func() bool {
		old = a.Stats()[b.key]
		return !old.Active && old.Rx != 0 && old.Tx != 0 && !old.LastHandshake.IsZero()
	})
	a.send(b.addr, 10)
	b.expect(10)
	a.expectChange("+" + b.key.Hex())
	poll(t, "the counters did not go on", func() bool { s := a.Stats()[b.key]; return s.Rx > old.Rx && s.Tx > old.Tx })
}

func TestFirstHandshakeActivates(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	b.hears.Store(true)
	a.know(b)
	b.know(a)
	a.find(b)
	b.find(a)
	start := time.Now()
	exchange(a, b, 1)
	// WireGuard would send a second handshake after five seconds.
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("the first handshake was lost: %v", took)
	}
	b.expectChange("+" + a.key.Hex())
}

func TestForgottenSessionIsRenewed(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	// b loses its side of the session; a goes on with it and b hears nothing.
	b.SetPeers(nil)
	b.know(a)
	start := time.Now()
	b.Activate(a.key)
	poll(t, "no new session", func() bool {
		a.send(b.addr, 2)
		select {
		case <-b.dev.in:
			return true
		default:
			return false
		}
	})
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("a new session took %v", took)
	} else {
		t.Logf("a new session took %v", took)
	}
}

func TestChangedKeyAndRemoval(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	a.expectChange("+" + b.key.Hex())
	fresh := b.peer()
	fresh.Key = key.NewPrivate().Public()
	a.SetPeers([]tunnel.Peer{fresh})
	a.expectChange("-" + b.key.Hex())
	b.send(a.addr, 5)
	if !a.LastData(b.key).IsZero() {
		t.Error("the old key is remembered")
	}
	a.send(b.addr, 6)
	a.expectChange("+" + fresh.Key.Hex())
	a.SetPeers(nil)
	a.expectChange("-" + fresh.Key.Hex())
	a.know(b)
	// This can take five seconds: WireGuard ignores a handshake whose timestamp
	// is not 16 ms newer than the last one of the same peer.
	a.send(b.addr, 7)
	b.expect(7)
	select {
	case pkt := <-a.dev.in:
		if n, _ := packetNumber(pkt); n == 5 {
			t.Error("a packet of a removed peer came in")
		}
	default:
	}
}

func TestNewAddressKeepsTheSession(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	poll(t, "no handshake", func() bool { return !a.Stats()[b.key].LastHandshake.IsZero() })
	before := handshakes(a, b.key)
	old := b.addr
	b.addr = netip.MustParseAddr("100.64.9.9")
	a.know(b)
	b.know(a)
	exchange(a, b, 10)
	dropped := a.Counters().DroppedUnknown
	a.send(old, 20)
	poll(t, "the old address still works", func() bool { return a.Counters().DroppedUnknown > dropped })
	if a.Counters().Activations != 1 || handshakes(a, b.key) != before {
		t.Error("the session did not outlive the change")
	}
}

func TestForgedInnerSource(t *testing.T) {
	a, b := pair(t)
	c := newNode(t, 3)
	b.know(a, c)
	b.Activate(a.key)
	exchange(a, b, 1)
	a.dev.out <- udpPacket(c.addr, b.addr, 66) // a speaks in c's name
	a.send(b.addr, 67)
	timeout := time.After(eventually)
	for done := false; !done; {
		select {
		case pkt := <-b.dev.in:
			n, _ := packetNumber(pkt)
			if n == 66 {
				t.Fatal("a packet with a foreign source came through")
			}
			done = n == 67
		case <-timeout:
			t.Fatal("nothing arrived")
		}
	}
	if !b.LastData(c.key).IsZero() {
		t.Error("a forged packet is taken for life")
	}
}

func TestFloodDoesNotDisturb(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	c := intruder(t, b)
	stun := make([]byte, 20)
	copy(stun, []byte{0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42})
	transport, initiation := make([]byte, 1000), make([]byte, 148)
	transport[0], initiation[0] = 4, 1
	for i := range uint32(300) {
		for _, pkt := range [][]byte{stun, {0xFF, 1, 2}, make([]byte, 1200), transport, initiation} {
			c.Write(pkt)
		}
		if i%3 == 0 {
			exchange(a, b, 100+2*i)
		}
	}
	s := b.bind.Stats()
	if s.STUN == 0 || s.DroppedRelay == 0 || s.DroppedGarbage == 0 {
		t.Errorf("the flood did not arrive: %+v", s)
	}
}

func TestReplaysFromElsewhereMoveNothing(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.know(b)
	b.know(a)
	b.Activate(a.key)
	// a's packets pass a wire that an attacker reads.
	wire, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan []byte, 1024)
	var carrier sync.WaitGroup
	carrier.Go(func() {
		for {
			buf := make([]byte, 2048)
			n, from, err := wire.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			to := b.socket()
			if from == to {
				to = a.socket()
			} else {
				seen <- buf[:n]
			}
			wire.WriteToUDPAddrPort(buf[:n], to)
		}
	})
	t.Cleanup(carrier.Wait)
	t.Cleanup(func() { wire.Close() })
	at := wire.LocalAddr().(*net.UDPAddr).AddrPort()
	a.bind.SetRoute(b.key, bind.Route{Path: at})
	b.bind.SetRoute(a.key, bind.Route{Path: at})
	exchange(a, b, 1)
	attacker := intruder(t, b)
	for i := range uint32(20) {
		exchange(a, b, 10+2*i)
		for range len(seen) {
			attacker.Write(<-seen)
		}
	}
	if got := b.bind.Path(a.key); got != at {
		t.Errorf("the path moved to %s", got)
	}
	attacker.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := attacker.Read(make([]byte, 2048)); err == nil {
		t.Errorf("the attacker got %d bytes", n)
	}
}

func TestPlainWireGuardPeer(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	plain := b.peer()
	plain.Endpoint = b.socket()
	a.SetPeers([]tunnel.Peer{plain})
	a.expectChange("+" + b.key.Hex())
	back := a.peer()
	back.Endpoint = a.socket()
	b.SetPeers([]tunnel.Peer{back})
	exchange(a, b, 1)
	// It becomes a member: configured anew, on use.
	a.know(b)
	a.expectChange("-" + b.key.Hex())
	a.find(b)
	a.send(b.addr, 9)
	b.expect(9)
	a.expectChange("+" + b.key.Hex())
}

func TestPlainPeerRoams(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	wrong := b.peer()
	wrong.Endpoint = netip.MustParseAddrPort("127.0.0.1:9")
	a.SetPeers([]tunnel.Peer{wrong})
	right := a.peer()
	right.Endpoint = a.socket()
	b.SetPeers([]tunnel.Peer{right})
	b.send(a.addr, 1) // from an address a did not expect
	a.expect(1)
	a.send(b.addr, 2)
	b.expect(2)
}

func TestBadRowsCostOthersNothing(t *testing.T) {
	a, b := pair(t)
	thief := tunnel.Peer{Key: key.NewPrivate().Public(), Addresses: []netip.Addr{b.addr, {}, netip.MustParseAddr("::ffff:100.64.0.77"), netip.MustParseAddr("ff02::1")}}
	a.SetPeers([]tunnel.Peer{{}, b.peer(), b.peer(), a.peer(), thief})
	a.Activate(thief.Key)
	exchange(a, b, 1)
	a.send(netip.MustParseAddr("100.64.0.77"), 2)
	poll(t, "the thief's own address is not known", func() bool { return a.Stats()[thief.Key].Active })
}
