package simnet

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Mapping and filtering behaviour of a NAT (RFC 4787).
type Behaviour uint8

const (
	Endpoint       Behaviour = iota // independent of the other side
	Address                         // dependent on its address
	AddressAndPort                  // dependent on its address and port
)

// NAT describes the edge of a site. The zero value is a full cone.
type NAT struct {
	Mapping, Filtering Behaviour
	// Public: no translation; Filtering still holds unless Open.
	Public bool
	Open   bool
	// Random ports; otherwise they count up, from 40000 on.
	Random bool
	// Lifetime of a mapping without outbound packets; 0: 30 s.
	Lifetime time.Duration
}

// Net is an internet. All methods may be called from any goroutine.
type Net struct {
	mu    sync.Mutex // guards all of Net, its sites and hosts
	sites map[netip.Addr]*Site
	// Delay one way between sites; inside a site it is a tenth. Set before use;
	// SetDelay changes it later.
	Delay time.Duration
	loss  float64
	rng   *rand.Rand
	count int
	taps  []func(Packet)
	pass  func(Packet) bool // nil: all
}

// Packet is a datagram as the internet sees it: between sites, translated.
type Packet struct {
	From, To netip.AddrPort
	Data     []byte
}

// New returns an internet with one-way delay, without loss.
func New(delay time.Duration) *Net {
	return &Net{sites: make(map[netip.Addr]*Site), Delay: delay, rng: rand.New(rand.NewPCG(1, 2))}
}

// SetLoss makes each packet between sites be lost with probability p.
func (n *Net) SetLoss(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = p
}

// SetDelay changes Delay for packets that are sent from now on.
func (n *Net) SetDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Delay = d
}

// Sent returns how many datagrams hosts have sent.
func (n *Net) Sent() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

// Tap calls f for every packet between sites, before loss. f must not call Net.
func (n *Net) Tap(f func(Packet)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taps = append(n.taps, f)
}

// Filter has only packets pass between sites that f allows. f must not call Net.
func (n *Net) Filter(f func(Packet) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pass = f
}

// Inject puts a packet on the internet with any source.
func (n *Net) Inject(p Packet) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.across(p)
}

// Site is a place with one public address.
type Site struct {
	net      *Net
	public   netip.Addr
	nat      NAT
	hosts    map[netip.Addr]*Host
	maps     map[mapKey]*mapping
	byPort   map[uint16]*mapping
	nextPort uint16
	blocked  bool
}

type mapKey struct {
	inside netip.AddrPort
	to     netip.AddrPort // as far as the mapping depends on it
}

type mapping struct {
	inside  netip.AddrPort
	port    uint16
	used    time.Time
	allowed map[netip.AddrPort]time.Time
}

// NewSite adds a site with a public address.
func (n *Net) NewSite(public string, nat NAT) *Site {
	if nat.Lifetime == 0 {
		nat.Lifetime = 30 * time.Second
	}
	s := &Site{net: n, public: netip.MustParseAddr(public), nat: nat, hosts: make(map[netip.Addr]*Host), nextPort: 40000}
	s.flush()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sites[s.public] = s
	return s
}

func (s *Site) flush() {
	s.maps, s.byPort = make(map[mapKey]*mapping), make(map[uint16]*mapping)
}

// Rebind forgets all mappings; new ones get other ports.
func (s *Site) Rebind() {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.flush()
	s.nextPort += 1000
}

// Block drops everything between the site and the internet.
func (s *Site) Block(on bool) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.blocked = on
}

// Host is a machine with a UDP socket, and more if it opens them.
type Host struct {
	site    *Site
	addr    netip.AddrPort
	deliver func(b []byte, from netip.AddrPort)
	sockets map[uint16]*Socket // further ones, by port
}

// receives returns what takes the packets to a port of the host; nil: nothing.
// mu is held.
func (h *Host) receives(port uint16) func(b []byte, from netip.AddrPort) {
	if h.addr.Port() == port {
		return h.deliver
	}
	if s := h.sockets[port]; s != nil {
		return s.push
	}
	return nil
}

// NewHost adds a host to a site. On a public site the address must be the
// site's. deliver is called on a goroutine of its own, and may keep b.
func (s *Site) NewHost(addr string, deliver func(b []byte, from netip.AddrPort)) *Host {
	h := &Host{site: s, addr: netip.MustParseAddrPort(addr), deliver: deliver}
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.hosts[h.addr.Addr()] = h
	return h
}

// Addr is the host's own address.
func (h *Host) Addr() netip.AddrPort {
	h.site.net.mu.Lock()
	defer h.site.net.mu.Unlock()
	return h.addr
}

// Site is where the host is.
func (h *Host) Site() *Site {
	h.site.net.mu.Lock()
	defer h.site.net.mu.Unlock()
	return h.site
}

// Move takes the host to another site and address; deliver stays.
func (h *Host) Move(to *Site, addr string) {
	n := h.site.net
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(h.site.hosts, h.addr.Addr())
	h.site, h.addr = to, netip.MustParseAddrPort(addr)
	to.hosts[h.addr.Addr()] = h
}

// Close takes the host off the net.
func (h *Host) Close() {
	h.site.net.mu.Lock()
	defer h.site.net.mu.Unlock()
	if h.site.hosts[h.addr.Addr()] == h {
		delete(h.site.hosts, h.addr.Addr())
	}
}

var errNoRoute = errors.New("network is unreachable")

// Send sends a datagram; it copies b. Its error is that of a missing address family.
func (h *Host) Send(b []byte, to netip.AddrPort) error { return h.send(b, 0, to) }

// send sends from a port; 0: that of the host's first socket.
func (h *Host) send(b []byte, port uint16, to netip.AddrPort) error {
	n := h.site.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count++
	data := append([]byte(nil), b...)
	source := h.addr
	if port != 0 {
		source = netip.AddrPortFrom(h.addr.Addr(), port)
	}
	if other := h.site.hosts[to.Addr()]; other != nil {
		if f := other.receives(to.Port()); f != nil {
			n.later(n.Delay/10, f, data, source)
		}
		return nil
	}
	if to.Addr().Is4() != h.site.public.Is4() {
		return errNoRoute
	}
	from, ok := h.site.outbound(source, to)
	if !ok || h.site.blocked {
		return nil
	}
	n.across(Packet{From: from, To: to, Data: data})
	return nil
}

// across carries a packet over the internet. mu is held.
func (n *Net) across(p Packet) {
	for _, f := range n.taps {
		f(p)
	}
	if n.pass != nil && !n.pass(p) {
		return
	}
	if n.loss > 0 && n.rng.Float64() < n.loss {
		return
	}
	time.AfterFunc(n.Delay, func() {
		n.mu.Lock()
		s := n.sites[p.To.Addr()]
		if s == nil || s.blocked {
			n.mu.Unlock()
			return
		}
		f := s.inbound(p.From, p.To)
		n.mu.Unlock()
		if f != nil {
			f(p.Data, p.From)
		}
	})
}

func (n *Net) later(d time.Duration, deliver func([]byte, netip.AddrPort), data []byte, from netip.AddrPort) {
	time.AfterFunc(d, func() { deliver(data, from) })
}
