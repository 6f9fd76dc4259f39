package bind

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"nexd/internal/relaypath"
	"nexd/key"
)

// Relays carries packets through relays, which it knows by number
// (relaypath.Addr turns one into an address). The methods are called by many
// goroutines at once, and by those that move packets: they must not block.
type Relays interface {
	// Send hands packets for a peer to a relay and returns how many it took and
	// whether they travel over TLS. It keeps none of them. Relay clients write to
	// the socket from inside it, with [Bind.WriteUDP].
	Send(relay uint16, peer key.Public, packets [][]byte) (sent int, tls bool)
	// HandleUDP takes a datagram that begins like a relay's frame. If it carries
	// a packet of a peer, ok is true and the packet is a part of pkt.
	HandleUDP(pkt []byte, from netip.AddrPort) (relay uint16, peer key.Public, packet []byte, ok bool)
}

var errNoRelays = errors.New("there are no relays")

// sendRelay sends WireGuard's packets through a relay and reports whether it
// took any. The error is net.ErrClosed or nil.
func (b *Bind) sendRelay(relay uint16, peer key.Public, bufs [][]byte) (sent bool, err error) {
	if !b.open.Load() {
		return false, net.ErrClosed
	}
	n, tls := 0, false
	if b.cfg.Relays != nil {
		n, tls = b.cfg.Relays.Send(relay, peer, bufs)
		n = max(0, min(n, len(bufs)))
	}
	if n < len(bufs) {
		b.count.relayRefused.Add(uint64(len(bufs) - n))
	}
	if n == 0 {
		return false, nil
	}
	class := relayUDP
	if tls {
		class = relayTLS
	}
	b.count.tx[class].add(n, total(bufs[:n]))
	return true, nil
}

// WriteRelay sends one packet to a peer through a relay: a check, or a sealed
// offer behind relaypath.Offer. An error says that the relay did not take it;
// it is net.ErrClosed while the socket is not open.
func (b *Bind) WriteRelay(relay uint16, peer key.Public, pkt []byte) error {
	if !b.open.Load() {
		return net.ErrClosed
	}
	if b.cfg.Relays == nil {
		return fmt.Errorf("send through relay %d: %w", relay, errNoRelays)
	}
	if n, _ := b.cfg.Relays.Send(relay, peer, [][]byte{pkt}); n < 1 {
		return fmt.Errorf("send through relay %d: it takes nothing now", relay)
	}
	return nil
}

// Deliver takes a packet that came through a relay by TLS; it does not block
// and keeps none of it. WireGuard's packets wait in a ring of 512 until they
// are read; when it is full the oldest is dropped and counted.
func (b *Bind) Deliver(relay uint16, peer key.Public, packet []byte) {
	b.DeliverAll(relay, peer, [][]byte{packet})
}

// DeliverAll is [Bind.Deliver] of packets of one peer that came together.
func (b *Bind) DeliverAll(relay uint16, peer key.Public, packets [][]byte) {
	if relay == 0 {
		return
	}
	run := 0 // of WireGuard's packets, begins here
	for i, packet := range packets {
		if b.relayed(relay, peer, packet) != kindWireGuard {
			b.deliver(relay, peer, packets[run:i])
			run = i + 1
		}
	}
	b.deliver(relay, peer, packets[run:])
}

func (b *Bind) deliver(relay uint16, peer key.Public, packets [][]byte) {
	if len(packets) > 0 && b.open.Load() {
		b.count.ring.Add(uint64(b.ring.push(b.relayEndpoint(relay, peer), packets...)))
	}
}

// relayed sorts a packet that came through a relay. All but WireGuard's are
// done with when it returns.
func (b *Bind) relayed(relay uint16, peer key.Public, packet []byte) kind {
	k := classify(packet)
	switch {
	case k == kindWireGuard:
	case k == kindSTUN:
		b.count.stun.Add(1)
		b.cfg.OnSTUN(packet, relaypath.Addr(relay))
	case len(packet) > 0 && packet[0] == relaypath.Offer:
		b.count.offers.Add(1)
		b.cfg.OnOffer(relay, peer, packet[1:])
	default:
		b.count.garbage.Add(1)
	}
	return k
}

// relayEndpoint returns a peer's endpoint at a relay: one object for a peer
// that is known, a new one each time for another.
func (b *Bind) relayEndpoint(relay uint16, peer key.Public) *relayEndpoint {
	if e := b.lookup(peer); e != nil {
		return e.through(relay)
	}
	return newRelayEndpoint(relay, peer, nil)
}
