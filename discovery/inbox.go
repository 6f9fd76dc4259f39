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

	mu       sync.Mutex // guards the fields below
	wants    map[key.Public]struct{}
	peerList []key.Public
	newPeers bool
	servers  []string
	newSTUN  bool

	droppedPackets, droppedSignals, droppedWants atomic.Uint64
}

type packet struct {
	data []byte
	from netip.AddrPort
	at   time.Time
}

type signal struct {
	from   key.Public
	sealed []byte
}

const (
	packetQueue = 512
	signalQueue = 128
	maxWants    = 4096
)

func newInbox() inbox {
	return inbox{
		packets: make(chan packet, packetQueue), signals: make(chan signal, signalQueue),
		wake: make(chan struct{}, 1), wants: make(map[key.Public]struct{}),
	}
}

// HandleSTUN takes a STUN packet that arrived on the socket. It copies pkt.
func (b *inbox) HandleSTUN(pkt []byte, from netip.AddrPort) {
	if !stunwire.Is(pkt) || len(pkt) > stunwire.MaxMessage {
		b.droppedPackets.Add(1)
		return
	}
	if len(b.packets) == cap(b.packets) { // spare the copy in a flood
		b.droppedPackets.Add(1)
		return
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	select {
	case b.packets <- packet{bytes.Clone(pkt), from, time.Now()}:
	default:
		b.droppedPackets.Add(1)
	}
}

// HandleSignal takes a sealed offer that the service delivered as from the
// peer; what it claims is checked. It copies sealed.
func (b *inbox) HandleSignal(from key.Public, sealed []byte) {
	if len(sealed) > controlapi.MaxSignal {
		b.droppedSignals.Add(1)
		return
	}
	select {
	case b.signals <- signal{from, bytes.Clone(sealed)}:
	default:
		b.droppedSignals.Add(1)
	}
}

// Want says that there is traffic for peer and no path, or that a path is
// wanted soon. For a peer that is no member it does nothing.
func (b *inbox) Want(peer key.Public) {
	b.mu.Lock()
	_, known := b.wants[peer]
	if !known && len(b.wants) < maxWants {
		b.wants[peer] = struct{}{}
	} else if !known {
		b.droppedWants.Add(1)
	}
	b.mu.Unlock()
	b.rouse()
}

// SetPeers replaces the list of members. One that is no longer there loses its
// path at once. It copies peers.
func (b *inbox) SetPeers(peers []key.Public) {
	b.mu.Lock()
	b.peerList, b.newPeers = slices.Clone(peers), true
	b.mu.Unlock()
	b.rouse()
}

// SetSTUN replaces the STUN servers, each host:port. It copies servers.
func (b *inbox) SetSTUN(servers []string) {
	b.mu.Lock()
	if !slices.Equal(b.servers, servers) || len(servers) == 0 {
		b.servers, b.newSTUN = slices.Clone(servers), true
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

// takeInbox does what was handed in.
func (a *Agent) takeInbox(resolveAt *time.Time) {
	a.mu.Lock()
	wants, peers, newPeers, newSTUN := a.wants, a.peerList, a.newPeers, a.newSTUN
	a.wants = make(map[key.Public]struct{})
	a.peerList, a.newPeers, a.newSTUN = nil, false, false
	a.mu.Unlock()

	now := time.Now()
	if newPeers {
		a.replacePeers(peers)
	}
	if newSTUN {
		*resolveAt = now
	}
	for k := range wants {
		if p := a.open(k, now); p != nil {
			a.step(p, now, func(m *machine) { m.want(now) })
		}
	}
}

// replacePeers makes the members those of the list.
func (a *Agent) replacePeers(list []key.Public) {
	member := make(map[key.Public]struct{}, len(list))
	var added []key.Public
	for _, k := range list {
		if k == a.self || k.IsZero() {
			continue
		}
		member[k] = struct{}{}
		if a.peers[k] == nil {
			a.peers[k] = &peer{key: k}
			added = append(added, k)
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
	if p.session != nil {
		for _, id := range p.asked {
			delete(a.asked, id)
		}
		if p.machine.best != nil {
			a.config.Paths.SetPath(p.key, netip.AddrPort{})
		}
	}
	a.unpublish(p.key)
}
