package relay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"nexd/key"
)

func TestPoolLoneRelay(t *testing.T) {
	all, list := relays(t, 1)
	n := newPool(t, all[0].service)
	n.SetRelays(list)
	n.waitHomes("r1")
	s := n.of("r1")
	if s.Number != 1 || !s.Home || s.Standby || s.Transport != UDP || s.RTT == 0 || s.UDP != all[0].udp || s.Err != nil {
		t.Errorf("%+v", s)
	}
	if st := n.Stats(); st.Probes != 0 || st.SessionsUDP != 1 {
		t.Errorf("%+v", st)
	}
	select {
	case <-n.changes:
	case <-time.After(patience):
		t.Error("no word of the change")
	}
	n.stop()
	waitFor(t, "the goodbye", func() bool { return all[0].server.Stats().SessionsUDP == 0 })
}

// The first relay of a list is reached in two round trips, whatever the others do.
func TestPoolDoesNotWait(t *testing.T) {
	all, list := relays(t, 2)
	dead := Info{ID: "dead", Key: key.NewPrivate().Public(), UDP: []string{"127.0.0.1:9"}}
	list = append([]Info{dead, dead, dead, list[0]}, list[1:]...)
	list[1].ID, list[2].ID = "dead2", "dead3"
	const rtt = 150 * time.Millisecond
	shortest := time.Hour
	for range 5 { // a machine that stands still for once says nothing
		n := newPool(t, all[0].service)
		n.far(all[0], rtt)
		n.far(all[1], rtt)
		began := time.Now()
		n.SetRelays(list)
		waitFor(t, "a home", func() bool { return len(n.Homes()) > 0 })
		if shortest = min(shortest, time.Since(began)); shortest <= 6*rtt {
			return
		}
	}
	t.Errorf("connected after %s, %.1f round trips", shortest, float64(shortest)/float64(rtt))
}

func TestPoolNumbersStay(t *testing.T) {
	all, list := relays(t, 3)
	n := newPool(t, all[0].service)
	n.SetRelays(list[:2])
	n.connected("r1", UDP)
	n.connected("r2", UDP)
	before := n.member(1).client.Load()
	n.SetRelays([]Info{list[2], list[0]})
	n.connected("r3", UDP)
	waitFor(t, "the goodbye to r2", func() bool { return all[1].server.Stats().SessionsUDP == 0 })
	if n.of("r3").Number != 3 || n.of("r1").Number != 1 || n.of("r2").Number != 0 || n.member(1).client.Load() != before {
		t.Errorf("%+v", n.Status())
	}
	renamed := list[0]
	renamed.Name = "another name"
	n.SetRelays([]Info{list[2], renamed, list[1]})
	waitFor(t, "the name", func() bool { return n.of("r1").Name == "another name" })
	n.waitStatus("r2", "its number", func(s PoolStatus) bool { return s.Number == 2 })
	if n.member(1).client.Load() != before {
		t.Error("the session of a renamed relay is another")
	}
	// Another machine takes r1's place.
	moved := newRelay(t, sharing(all[0].service)).info("r1")
	n.SetRelays([]Info{moved, list[1], list[2]})
	waitFor(t, "the goodbye to r1", func() bool { return all[0].server.Stats().SessionsUDP == 0 })
	n.Use(1)
	n.waitStatus("r1", "a session", func(s PoolStatus) bool { return s.Connected && s.Key == moved.Key && s.Number == 1 })
}

func TestPoolRefuses(t *testing.T) {
	all, list := relays(t, 1)
	n := newPool(t, all[0].service)
	twice := list[0]
	twice.Key = key.NewPrivate().Public()
	n.SetRelays([]Info{{}, {ID: "no key", URL: "https://x"}, {ID: "no way", Key: list[0].Key}, {ID: "bad url", Key: list[0].Key, URL: "%"}, list[0], twice})
	n.waitHomes("r1")
	if got := n.Status(); len(got) != 1 || got[0].Key != list[0].Key {
		t.Errorf("%+v", got)
	}
	many := make([]Info, maxNumber+3)
	for i := range many {
		many[i] = Info{ID: fmt.Sprint(i), Key: list[0].Key, UDP: []string{"127.0.0.1:9"}}
	}
	p, err := NewPool(PoolConfig{Private: key.NewPrivate(), Credential: func() []byte { return nil }, WriteUDP: func([][]byte, netip.AddrPort) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	p.SetRelays(many)
	if got := len(p.Status()); got != maxNumber || p.Status()[maxNumber-1].Number != maxNumber {
		t.Errorf("%d numbers", got)
	}
}

func TestPoolTakesTheNearest(t *testing.T) {
	all, list := relays(t, 3)
	n := newPool(t, all[0].service)
	n.far(all[0], 120*time.Millisecond)
	n.far(all[2], 50*time.Millisecond)
	n.SetRelays(list)
	n.waitHomes("r2", "r3")
	n.waitStatus("r1", "no session", func(s PoolStatus) bool { return !s.Connected })
	if rtt := n.of("r1").RTT; rtt < 100*time.Millisecond || rtt > time.Second {
		t.Errorf("r1 at %s", rtt)
	}
	if s := n.Stats(); s.HomeChanges > 1 || s.ProbesAnswered < 6 {
		t.Errorf("%+v", s)
	}
}

func TestPoolStandbyTakesOver(t *testing.T) {
	all, list := relays(t, 3)
	n, peer := newPool(t, all[0].service), newPool(t, all[0].service)
	for _, p := range []*testPool{n, peer} {
		p.far(all[1], 40*time.Millisecond)
		p.far(all[2], 90*time.Millisecond)
		p.SetRelays(list)
		p.waitHomes("r1", "r2")
	}
	n.reaches(peer, 1, "before")
	all[0].stop()
	all[0].web.CloseClientConnections()
	n.waitHomes("r2", "r3")
	peer.waitHomes("r2", "r3")
	if s := n.of("r1"); s.Connected || s.Number != 1 {
		t.Errorf("%+v", s)
	}
	if p := n.reaches(peer, 2, "after"); p.relay != 2 || p.tls {
		t.Errorf("%+v", p)
	}
}

func TestPoolLeavesADrainingHome(t *testing.T) {
	all, list := relays(t, 2)
	n := newPool(t, all[0].service)
	n.far(all[1], 60*time.Millisecond)
	n.SetRelays(list)
	n.waitHomes("r1", "r2")
	all[0].server.Drain()
	n.waitHomes("r2", "r1")
}

func TestPoolOnDemand(t *testing.T) {
	all, list := relays(t, 4)
	short := func(p *Pool, _ *testPool) { p.onDemand, p.maxSessions = 1500*time.Millisecond, 3 }
	n, peer := newPool(t, all[0].service, short), newPool(t, all[0].service)
	for _, p := range []*testPool{n, peer} {
		for i, r := range all[1:] {
			p.far(r, time.Duration(i+1)*40*time.Millisecond)
		}
		p.SetRelays(list)
		p.waitHomes("r1", "r2")
	}
	waitFor(t, "r3 and r4 to be left", func() bool {
		return all[2].server.Stats().SessionsUDP+all[3].server.Stats().SessionsUDP == 0
	})
	if sent, _ := n.Send(3, peer.private.Public(), [][]byte{text("too early")}); sent != 0 || n.Stats().DroppedNoSession != 1 {
		t.Errorf("%d sent, %+v", sent, n.Stats())
	}
	waitFor(t, "a session that Send asks for", func() bool {
		n.Send(3, peer.private.Public(), [][]byte{text("too early")})
		return n.of("r3").Transport == UDP
	})
	peer.uses(3, "r3")
	for range 20 { // packets keep it, for longer than it would stay without
		time.Sleep(100 * time.Millisecond)
		n.reaches(peer, 3, "there")
	}
	if s := n.of("r3"); !s.Connected || s.Home || s.Standby {
		t.Errorf("%+v", s)
	}
	n.uses(4, "r4") // there is room for one
	n.waitStatus("r3", "its end", func(s PoolStatus) bool { return !s.Connected })
	n.waitStatus("r4", "its end", func(s PoolStatus) bool { return !s.Connected })
	waitFor(t, "the goodbyes", func() bool { return all[3].server.Stats().SessionsUDP == 0 })
	if got := n.Homes(); !slices.Equal(got, []string{"r1", "r2"}) {
		t.Errorf("homes %v", got)
	}
}

// Without UDP the relays are measured through sessions, and used.
func TestPoolWithoutUDP(t *testing.T) {
	all, list := relays(t, 3)
	n, peer := newPool(t, all[0].service), newPool(t, all[0].service)
	n.mute.Store(true)
	for _, p := range []*testPool{n, peer} {
		p.SetRelays(list)
		waitFor(t, "two homes", func() bool { return len(p.Homes()) == 2 })
	}
	for _, s := range n.Status() {
		if s.Connected && s.Transport != TLS {
			t.Errorf("%+v", s)
		}
	}
	home := n.of(n.Homes()[0]).Number
	peer.Use(home)
	if p := n.reaches(peer, home, "by tls"); p.relay != home || p.tls {
		t.Errorf("%+v", p)
	}
	if p := peer.reaches(n, home, "and back"); p.relay != home || !p.tls {
		t.Errorf("%+v", p)
	}
	waitFor(t, "the third to be measured", func() bool {
		return !slices.ContainsFunc(n.Status(), func(s PoolStatus) bool { return s.RTT == 0 })
	})
}

func TestPoolTellsPresence(t *testing.T) {
	all, list := relays(t, 2)
	n, late := newPool(t, all[0].service), newPool(t, all[0].service)
	n.SetRelays(list)
	waitFor(t, "two homes", func() bool { return len(n.Homes()) == 2 })
	n.Send(2, late.private.Public(), [][]byte{text("?")})
	if got := <-n.presence; got != (poolPresence{2, late.private.Public(), false}) {
		t.Errorf("%+v", got)
	}
	late.SetRelays(list)
	if got := <-n.presence; got != (poolPresence{2, late.private.Public(), true}) {
		t.Errorf("%+v", got)
	}
}

func TestPoolKnowsItsRelays(t *testing.T) {
	all, list := relays(t, 1)
	n, peer := newPool(t, all[0].service), newPool(t, all[0].service)
	n.SetRelays(list)
	peer.SetRelays(list)
	n.waitHomes("r1")
	peer.reaches(n, 1, "hello")
	c := n.member(1).client.Load()
	ch := c.peers.get(peer.private.Public())
	frame := append(appendHeader(nil, header{FrameData, ch.number, c.tag}), "sealed"...)
	relay, from, packet, ok := n.HandleUDP(frame, all[0].udp)
	if relay != 1 || from != peer.private.Public() || string(packet) != "sealed" || !ok {
		t.Errorf("%d %v %q %v", relay, from, packet, ok)
	}
	mapped := netip.AddrPortFrom(netip.AddrFrom16(all[0].udp.Addr().As16()), all[0].udp.Port())
	if _, _, _, ok = n.HandleUDP(frame, mapped); !ok {
		t.Error("not known by its mapped address")
	}
	stranger := netip.MustParseAddrPort("127.0.0.1:9")
	if _, _, _, ok = n.HandleUDP(frame, stranger); ok {
		t.Error("a stranger is believed")
	}
	if got := testing.AllocsPerRun(100, func() { n.HandleUDP(frame, all[0].udp) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
