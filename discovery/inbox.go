package discovery

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nexd/controlapi"
	"nexd/internal/stunwire"
	"nexd/key"
)

// inbox takes what others hand in, without blocking them. Packets and signals
// that find their queue full are dropped and counted, as the network might have;
// of lists only the newest counts.
type inbox struct {
	packets chan packet
	signals chan signal
	wake    chan struct{} // the fields below have news

	mu      sync.Mutex // guards the fields below
	mail    mail
	servers []string

	droppedPackets, droppedSignals, droppedWants atomic.Uint64
}

// mail is what was handed in since Run looked last; of what is nil there is no news.
type mail struct {
	wants   map[key.Public]struct{}
	peers   *[]Peer
	back    map[key.Public]struct{} // were no members for a while since; nil: nobody
	relays  *[]Relay
	mapped  *[]netip.AddrPort
	notices []notice
	servers bool
	moved   bool // the network changed
}

type packet struct {
	data []byte
	from netip.AddrPort
	at   time.Time
	hole *openHole // that it came to; nil: the one socket
}

type signal struct {
	from   key.Public
	relay  uint16 // that brought it; 0: the service did
	sealed []byte
}

// notice is what a relay says of a peer.
type notice struct {
	relay uint16
	peer  key.Public
	here  bool
}

const (
	packetQueue = 512
	signalQueue = 128
	maxWants    = 4096
	maxNotices  = 1024
	maxRelays   = 64
)

func newInbox() inbox {
	return inbox{
		packets: make(chan packet, packetQueue), signals: make(chan signal, signalQueue),
		wake: make(chan struct{}, 1), mail: newMail(),
	}
}

func newMail() mail { return mail{wants: make(map[key.Public]struct{})} }

// HandleSTUN takes a STUN packet that arrived on the socket. It copies pkt.
func (b *inbox) HandleSTUN(pkt []byte, from netip.AddrPort) {
	if !stunwire.Is(pkt) || len(pkt) > stunwire.MaxPadded {
		b.droppedPackets.Add(1)
		return
	}
	if len(b.packets) == cap(b.packets) { // spare the copy in a flood
		b.droppedPackets.Add(1)
		return
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	select {
	case b.packets <- packet{bytes.Clone(pkt), from, time.Now(), nil}:
	default:
		b.droppedPackets.Add(1)
	}
}

// HandleSignal takes a sealed offer that the service delivered as from the
// peer; what it claims is checked. It copies sealed.
func (b *inbox) HandleSignal(from key.Public, sealed []byte) { b.HandleOffer(0, from, sealed) }

// HandleOffer takes a sealed offer that came through a relay. It copies sealed.
func (b *inbox) HandleOffer(relay uint16, from key.Public, sealed []byte) {
	if len(sealed) > controlapi.MaxSignal || len(b.signals) == cap(b.signals) {
		b.droppedSignals.Add(1)
		return
	}
	select {
	case b.signals <- signal{from, relay, bytes.Clone(sealed)}:
	default:
		b.droppedSignals.Add(1)
	}
}

// Want says that there is traffic for peer and no path, or that a path is
// wanted soon. For a peer that is no member it does nothing.
func (b *inbox) Want(peer key.Public) {
	b.mu.Lock()
	_, known := b.mail.wants[peer]
	if !known && len(b.mail.wants) < maxWants {
		b.mail.wants[peer] = struct{}{}
	} else if !known {
		b.droppedWants.Add(1)
	}
	b.mu.Unlock()
	b.rouse()
}

// SetRelays replaces the list of relays; at most 64 are taken. It copies relays.
func (b *inbox) SetRelays(relays []Relay) {
	relays = slices.Clone(relays[:min(len(relays), maxRelays)])
	b.mu.Lock()
	b.mail.relays = &relays
	b.mu.Unlock()
	b.rouse()
}

// Presence says that a peer is, or is not, at a relay, as the relay told.
func (b *inbox) Presence(relay uint16, peer key.Public, here bool) {
	b.mu.Lock()
	if len(b.mail.notices) < maxNotices {
		b.mail.notices = append(b.mail.notices, notice{relay, peer, here})
	}
	b.mu.Unlock()
	b.rouse()
}

// SetMapped replaces the port mappings of the gateway that lead to the socket.
// It copies mapped.
func (b *inbox) SetMapped(mapped []netip.AddrPort) {
	mapped = slices.Clone(mapped)
	b.mu.Lock()
	b.mail.mapped = &mapped
	b.mu.Unlock()
	b.rouse()
}

// NetworkChanged says that addresses or routes of the machine may be others now.
func (b *inbox) NetworkChanged() {
	b.mu.Lock()
	b.mail.moved = true
	b.mu.Unlock()
	b.rouse()
}

// SetPeers replaces the list of members. One that is no longer there loses its
// path at once. It copies the list; the lists of relays in it must not change.
func (b *inbox) SetPeers(peers []Peer) {
	peers = slices.Clone(peers)
	b.mu.Lock()
	if b.mail.peers != nil {
		b.mail.noteBack(*b.mail.peers, peers)
	}
	b.mail.peers = &peers
	b.mu.Unlock()
	b.rouse()
}

// noteBack keeps who is in the list next and not in the one that it replaces
// before anybody looked at that. Others have forgotten such a member, and its
// route, when it left: so must we, though it is there again.
func (m *mail) noteBack(unread, next []Peer) {
	was := make(map[key.Public]struct{}, len(unread))
	for _, x := range unread {
		was[x.Key] = struct{}{}
	}
	for _, x := range next {
		if _, ok := was[x.Key]; ok {
			continue
		}
		if m.back == nil {
			m.back = make(map[key.Public]struct{})
		}
		m.back[x.Key] = struct{}{}
	}
}

// SetSTUN replaces the STUN servers, each host:port. It copies servers.
func (b *inbox) SetSTUN(servers []string) {
	b.mu.Lock()
	if !slices.Equal(b.servers, servers) || len(servers) == 0 {
		b.servers, b.mail.servers = slices.Clone(servers), true
	}
	b.mu.Unlock()
	b.rouse()
}

func (b *inbox) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) serverNames() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.servers // replaced, never changed
}

// takeMail does what was handed in.
func (a *Agent) takeMail(resolveAt *time.Time) {
	a.mu.Lock()
	m := a.mail
	a.mail = newMail()
	a.mu.Unlock()

	now := time.Now()
	if m.relays != nil {
		a.replaceRelays(now, *m.relays)
	}
	for k := range m.back {
		if p := a.peers[k]; p != nil {
			a.forget(p)
		}
	}
	if m.peers != nil {
		a.replacePeers(*m.peers)
	}
	if m.servers {
		*resolveAt = now
	}
	if m.mapped != nil && !slices.Equal(*m.mapped, a.ports) {
		a.ports = *m.mapped
		a.tellPeers(now)
	}
	if m.moved {
		a.readInterfaces()
		a.networkChanged()
	}
	for _, n := range m.notices {
		if p := a.peers[n.peer]; p != nil && p.session != nil {
			a.step(p, now, func(m *machine) { m.presence(now, n.relay, n.here) })
		}
	}
	for k := range m.wants {
		if p := a.open(k, now); p != nil {
			a.step(p, now, func(m *machine) { m.want(now) })
		}
	}
}

// replacePeers makes the members those of the list.
func (a *Agent) replacePeers(list []Peer) {
	member := make(map[key.Public]struct{}, len(list))
	var added []key.Public
	for _, x := range list {
		if x.Key == a.self || x.Key.IsZero() {
			continue
		}
		member[x.Key] = struct{}{}
		p := a.peers[x.Key]
		if p == nil {
			p = &peer{key: x.Key}
			a.peers[x.Key] = p
			added = append(added, x.Key)
		}
		if !slices.Equal(p.relays, x.Relays) {
			p.relays, p.ranked = x.Relays, 0
			if p.session != nil && len(x.Relays) > 0 {
				p.offered = nil // its own word is the older one now
			}
		}
	}
	for k, p := range a.peers {
		if _, ok := member[k]; !ok {
			a.forget(p)
		}
	}
	a.hints.first(added)
	a.toDerive.deriveSoon(added)
}

// forget removes a peer and all that points to it.
func (a *Agent) forget(p *peer) {
	delete(a.peers, p.key)
	delete(a.active, p)
	if p.secrets != nil {
		delete(a.byHint, p.secrets.hintIn)
	}
	a.hints.remove(p.key)
	if a.hard.proposed == p {
		a.hard.proposed = nil
	}
	if a.hard.peer == p {
		a.endRound()
	}
	if p.session != nil {
		a.releaseHole(p)
		for _, id := range p.asked {
			delete(a.asked, id)
		}
		if p.machine.best != nil {
			a.config.Paths.SetRoute(p.key, netip.AddrPort{}, netip.AddrPort{}, false)
		}
		if p.machine.toldMTU != 0 {
			a.config.OnMTU(p.key, 0)
		}
	}
	a.unpublish(p.key)
}
