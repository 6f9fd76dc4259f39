package tunnel

import (
	"net/netip"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/tun"
)

// gate stands between WireGuard and the tun.Device. It looks at each packet's
// far address: on the way out to have its peer configured before WireGuard
// looks for it, on the way in to note that the peer is alive. It copies no
// packet and allocates nothing per packet.
type gate struct {
	tun.Device
	tunnel *Tunnel
	events chan tun.Event

	// The last destination looked up, and in which table. Only Read uses
	// them, and only one goroutine of the device reads.
	table *table
	addr  netip.Addr
	to    *member
}

// counters count what the gate and the owner did.
type counters struct {
	unknown, malformed, answered, late atomic.Uint64
	activations, deactivations         atomic.Uint64
}

// Counters is what happened since New.
type Counters struct {
	DroppedUnknown   uint64 // packets to an address of no member
	DroppedMalformed uint64 // packets from the Device that are not IP
	Unreachables     uint64 // ICMP answers to DroppedUnknown
	Late             uint64 // times WireGuard did not get configured soon enough
	Activations      uint64
	Deactivations    uint64
}

// Counters returns what happened since New.
func (t *Tunnel) Counters() Counters {
	return Counters{
		DroppedUnknown:   t.count.unknown.Load(),
		DroppedMalformed: t.count.malformed.Load(),
		Unreachables:     t.count.answered.Load(),
		Late:             t.count.late.Load(),
		Activations:      t.count.activations.Load(),
		Deactivations:    t.count.deactivations.Load(),
	}
}

// Read passes packets from the Device to WireGuard. Packets for nobody get a
// size of 0, which WireGuard skips.
func (g *gate) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := g.Device.Read(bufs, sizes, offset)
	if n > 0 {
		g.outbound(bufs[:n], sizes[:n], offset)
	}
	return n, err
}

func (g *gate) outbound(bufs [][]byte, sizes []int, offset int) {
	t := g.tunnel
	if table := t.table.Load(); table != g.table {
		g.table, g.addr, g.to = table, netip.Addr{}, nil
	}
	now := t.since()
	var touched *member
	var wanted []*member // rarely any: then it is allocated
	for i, buf := range bufs {
		if sizes[i] < 1 {
			continue
		}
		pkt := buf[offset : offset+sizes[i]]
		dst, ok := destination(pkt)
		if !ok {
			t.count.malformed.Add(1)
			sizes[i] = 0
			continue
		}
		if dst != g.addr {
			g.addr, g.to = dst, g.table.byAddr[dst]
		}
		m := g.to
		if m == nil {
			t.count.unknown.Add(1)
			t.refuse(pkt)
			sizes[i] = 0
			continue
		}
		if m == touched {
			continue
		}
		touched = m
		m.life.lastOut.Store(now)
		if !m.life.active.Load() {
			wanted = append(wanted, m)
		}
	}
	if wanted != nil {
		t.askSoon(request{members: wanted})
	}
}

// Write passes packets WireGuard has authenticated to the Device.
func (g *gate) Write(bufs [][]byte, offset int) (int, error) {
	t := g.tunnel
	table := t.table.Load()
	now := t.since()
	var last netip.Addr
	for _, buf := range bufs {
		if len(buf) <= offset {
			continue
		}
		src, ok := source(buf[offset:])
		if !ok || src == last {
			continue
		}
		last = src
		if m := table.byAddr[src]; m != nil {
			m.life.lastIn.Store(now)
		}
	}
	return g.Device.Write(bufs, offset)
}

// Events passes on changes of the MTU alone: whether the tunnel is up is said
// by Up and Close, not by the state of an interface.
func (g *gate) Events() <-chan tun.Event { return g.events }

// forwardEvents runs until the Device is closed.
func (g *gate) forwardEvents() {
	defer close(g.events)
	for ev := range g.Device.Events() {
		if ev&tun.EventMTUUpdate != 0 {
			g.events <- tun.EventMTUUpdate // the device reads until we close
		}
	}
}

// destination returns where an IP packet goes.
func destination(pkt []byte) (netip.Addr, bool) { return addressAt(pkt, 16, 24) }

// source returns where an IP packet comes from.
func source(pkt []byte) (netip.Addr, bool) { return addressAt(pkt, 12, 8) }

// addressAt reads an address at one offset in an IPv4 header (RFC 791) and
// another in an IPv6 header (RFC 8200).
func addressAt(pkt []byte, at4, at6 int) (netip.Addr, bool) {
	if len(pkt) < ipv4Header {
		return netip.Addr{}, false
	}
	switch pkt[0] >> 4 {
	case 4:
		return netip.AddrFrom4([4]byte(pkt[at4 : at4+4])), true
	case 6:
		if len(pkt) >= ipv6Header {
			return netip.AddrFrom16([16]byte(pkt[at6 : at6+16])), true
		}
	}
	return netip.Addr{}, false
}
