package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"nexd/bind"
	"nexd/controlapi"
	"nexd/discovery"
	"nexd/internal/logkey"
	"nexd/internal/netwatch"
	"nexd/key"
	"nexd/netstack"
	"nexd/portmap"
	"nexd/relay"
	"nexd/state"
	"nexd/tunnel"
)

// plane is the road of packets: netstack, tunnel and bind one behind the
// other, the relays beside bind, and discovery, which tells bind where each
// peer is.
type plane struct {
	stack  *netstack.Stack
	tunnel *tunnel.Tunnel
	bind   *bind.Bind
	relays *relay.Pool
	agent  *discovery.Agent
	watch  *netwatch.Watcher
	mapper *portmap.Mapper // nil: the gateway is not asked
	sizes  *sizes
	pinned int // the size of packets to all, in bytes; 0: what each path carries

	freshMu sync.Mutex // guards fresh, and the order of news of relays
	fresh   map[uint16]time.Time
}

// openPlane builds the data plane and opens its UDP socket. A remembered port
// that is taken by now is replaced by another; one the user named is not.
func (n *Node) openPlane() (*plane, error) {
	data := n.store.Data()
	port := n.cfg.ListenPort
	if port == 0 {
		port = data.ListenPort
	}
	p, err := n.buildPlane(data, port)
	if err != nil && n.cfg.ListenPort == 0 && port != 0 && errors.Is(err, syscall.EADDRINUSE) {
		n.log.Warn("the remembered UDP port is taken: using another", logkey.Port, port)
		p, err = n.buildPlane(data, 0)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &UsageError{
			Message: fmt.Sprintf("UDP port %d is in use", port),
			Hint:    "choose another --listen-port, or 0 for a random one",
		}
	}
	if err != nil {
		return nil, err
	}
	if got := p.bind.Port(); got != data.ListenPort {
		if err := n.store.Update(func(d *state.Data) { d.ListenPort = got }); err != nil {
			n.log.Warn("remember the UDP port", logkey.Port, got, logkey.Err, err)
		}
	}
	return p, nil
}

func (n *Node) buildPlane(data state.Data, port uint16) (_ *plane, err error) {
	p := &plane{fresh: make(map[uint16]time.Time), pinned: n.cfg.MTU}
	if p.stack, err = netstack.New(netstack.Config{MTU: n.cfg.MTU, Log: n.log}); err != nil {
		return nil, fmt.Errorf("start the network stack: %w", err)
	}
	p.sizes = newSizes(p.stack)
	maxMTU := 0
	if n.cfg.MTU == 0 {
		maxMTU = netstack.MaxPathMTU
	}
	// The parts call each other: the closures read p, which is whole before
	// the tunnel comes up and the first packet moves.
	p.relays, err = relay.NewPool(relay.PoolConfig{
		Private: data.PrivateKey, Log: n.log, Credential: n.relayCredential,
		WriteUDP:   func(packets [][]byte, to netip.AddrPort) error { return p.bind.WriteUDP(packets, to) },
		DeliverAll: func(relay uint16, peer key.Public, packets [][]byte) { p.bind.DeliverAll(relay, peer, packets) },
		OnPresence: func(relay uint16, peer key.Public, here bool) { p.agent.Presence(relay, peer, here) },
		OnChange:   func() { p.relaysChanged(); n.changed.notify() },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the relays: %w", err), p.stack.Close())
	}
	p.bind = bind.New(bind.Config{
		Log: n.log, Port: port, Relays: p.relays,
		OnOffer:  func(relay uint16, peer key.Public, sealed []byte) { p.agent.HandleOffer(relay, peer, sealed) },
		OnSTUN:   func(pkt []byte, from netip.AddrPort) { p.agent.HandleSTUN(pkt, from) },
		OnNoPath: func(peer key.Public) { p.agent.Want(peer) },
		OnHeard:  func(peer key.Public) { p.tunnel.Activate(peer) },
	})
	p.tunnel, err = tunnel.New(tunnel.Config{
		Private: data.PrivateKey, Device: p.stack.Device(), Bind: p.bind, Log: n.log,
		OnActivate:   func(peer key.Public) { p.sizes.used(peer); p.agent.Want(peer) },
		OnDeactivate: func(peer key.Public) { p.bind.Forget(peer) },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start WireGuard: %w", err), p.stack.Close())
	}
	hints := make([]discovery.Hint, 0, len(data.Hints))
	for _, h := range data.Hints {
		hints = append(hints, discovery.Hint(h))
	}
	p.agent = discovery.New(discovery.Config{
		Private: data.PrivateKey, Log: n.log,
		Socket: p.bind, Paths: paths{p.bind, p.sizes},
		Signal:   n.signal,
		UseRelay: p.relays.Use,
		Activity: p.activity,
		Activate: func(peer key.Public) { p.tunnel.Activate(peer) },
		Static:   n.staticEndpoints(), LocalIP: n.cfg.LocalEndpointIP,
		Exclude: n.ownRange,
		MaxMTU:  maxMTU, OnMTU: func(peer key.Public, mtu int) { p.sizes.tell(peer, mtu) },
		OnChange: n.changed.notify,
		Hints:    hints, OnHints: n.keepHints,
		PunchHard:  n.cfg.PunchHardNAT,
		OpenSocket: func() (*net.UDPConn, error) { return net.ListenUDP("udp4", nil) },
		Adopt:      p.bind.AddSocket, Release: p.bind.RemoveSocket,
	})
	p.watch = netwatch.New(netwatch.Config{Log: n.log, OnChange: func(reason string) { n.networkChanged(p, reason) }})
	if n.cfg.PortMapping {
		// A secret of this device's own: what an earlier life had mapped can be renewed.
		secret, err := data.PrivateKey.Derive(data.PrivateKey.Public(), "nexd port mapping v1")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare the port mapping: %w", err), p.stack.Close())
		}
		p.mapper = portmap.New(portmap.Config{Log: n.log, Port: p.bind.Port, OnChange: p.agent.SetMapped, Secret: secret[:]})
	}
	if err := p.tunnel.Up(); err != nil {
		p.close()
		return nil, fmt.Errorf("open the UDP socket: %w", err)
	}
	return p, nil
}

// watchTunnel returns when ctx ends, or with an error when the tunnel ended by itself.
func (p *plane) watchTunnel(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.tunnel.Done():
		return errors.New("the tunnel ended by itself")
	}
}

// close ends the data plane; nothing moves afterwards.
func (p *plane) close() {
	p.tunnel.Close() // closes the bind and the stack's device with it
	p.stack.Close()
}

// activity returns when traffic with a peer last moved. A packet that only
// came from the right address proves nothing; one that left the tunnel does,
// but not by which path it came: proof of life is the earlier of both.
func (p *plane) activity(peer key.Public) discovery.Activity {
	a := p.bind.Activity(peer)
	received := p.tunnel.LastData(peer)
	if a.LastReceived.Before(received) {
		received = a.LastReceived
	}
	return discovery.Activity{Sent: a.LastSent, Large: a.LastLarge, Received: received, Relay: a.Relay, RelayAt: a.RelayAt}
}

// mtu is the largest packet to a peer; 0: nobody has talked to it.
func (p *plane) mtu(peer key.Public) int {
	if p.pinned != 0 {
		return p.pinned
	}
	return p.sizes.of(peer)
}

// start runs what the plane consists of.
func (p *plane) start(ctx context.Context, tasks *errgroup.Group) {
	tasks.Go(func() error { return p.relays.Run(ctx) })
	tasks.Go(func() error { return p.agent.Run(ctx) })
	tasks.Go(func() error { return p.watch.Run(ctx) })
	if p.mapper != nil {
		tasks.Go(func() error { return p.mapper.Run(ctx) })
	}
	tasks.Go(func() error { return p.watchTunnel(ctx) })
}

// networkChanged has every part that talks to the outside look anew: what was
// connected from an address of before may be dead without knowing it.
func (n *Node) networkChanged(p *plane, reason string) {
	n.log.Info("the network of this machine changed", logkey.Reason, reason)
	p.agent.NetworkChanged()
	p.relays.Wake()
	if p.mapper != nil {
		p.mapper.Wake()
	}
	n.client.Reconnect()
}

// signal carries a sealed offer to a peer through the service.
func (n *Node) signal(ctx context.Context, to key.Public, sealed []byte) error {
	delivered, err := n.client.Signal(ctx, n.token(), controlapi.Signal{To: to, Payload: sealed})
	if err == nil && !delivered {
		err = errors.New("the peer is not connected to the service")
	}
	return err
}

// staticEndpoints resolves --endpoint. A name that does not resolve now is
// reported; the node goes on without it.
func (n *Node) staticEndpoints() []netip.AddrPort {
	if n.cfg.Endpoint == "" {
		return nil
	}
	host, portText, _ := net.SplitHostPort(n.cfg.Endpoint)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", portText)
	if err != nil {
		n.log.Error("--endpoint: the port is not a number", logkey.Addr, n.cfg.Endpoint, logkey.Err, err)
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		n.log.Error("--endpoint cannot be resolved: peers are not told of it", logkey.Addr, n.cfg.Endpoint, logkey.Err, err)
		return nil
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	return out
}

// ownRange reports whether an address belongs to the mesh itself, where no
// path may lead.
func (n *Node) ownRange(a netip.Addr) bool {
	m := n.roster.current()
	if m == nil {
		return false
	}
	for _, p := range m.Network.CIDRs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// keepHints stores where peers were last reached, for a start without the service.
func (n *Node) keepHints(hints []discovery.Hint) {
	kept := make([]state.Hint, 0, len(hints))
	for _, h := range hints {
		kept = append(kept, state.Hint(h))
	}
	if err := n.store.Update(func(d *state.Data) { d.Hints = kept }); err != nil {
		n.log.Debug("keep the addresses of peers", logkey.Err, err)
	}
}
