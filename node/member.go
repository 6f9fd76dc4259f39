package node

import (
	"context"
	"runtime"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/discovery"
	"nexd/internal/buildinfo"
	"nexd/internal/logkey"
	"nexd/localapi"
	"nexd/state"
	"nexd/tunnel"
)

// saveDelay is how long changes of the map gather before they are written.
const saveDelay = 2 * time.Second

// rejoinDelay lies between tries of a device that the service forgot.
const rejoinDelay = 30 * time.Second

// join asks for membership until the service answers. A refusal ends it.
func (n *Node) join(ctx context.Context) error {
	n.setState(localapi.StateJoining)
	name, onTaken := n.deviceName()
	resp, err := n.client.Join(ctx, controlclient.JoinParams{
		Private: n.store.Data().PrivateKey, RegKey: n.regKey.Secret,
		Name: name, OnNameTaken: onTaken, RequestIP: n.cfg.RequestIP, Ephemeral: n.cfg.Ephemeral,
		Version: buildinfo.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		OnWait: func(err error, _ time.Duration) { n.serviceError(err) },
	})
	if err != nil {
		return joinUsage(err)
	}
	m := &controlapi.Map{Self: resp.Device, Network: resp.Network}
	if err := n.store.Update(func(d *state.Data) { d.Credential, d.Map = resp.Credential, m }); err != nil {
		// The membership is real all the same: this run goes on with it.
		n.log.Error("keep the device's credential: the next start needs the registration key again", logkey.Err, err)
	}
	n.keepService()
	n.joined(resp.Credential)
	n.roster.set(m)
	n.serviceError(nil)
	n.log.Info("joined", logkey.Device, resp.Device.Name, "addresses", resp.Device.Addresses)
	return nil
}

// joinUsage turns a refusal into the error of a wrong request: it says what to
// do, and the same start would fail again.
func joinUsage(err error) error {
	return &UsageError{Message: err.Error(), Hint: controlclient.Hint(err)}
}

// follow keeps to the service's stream for ever, and writes the map to disk
// when it changed. It returns when ctx ends.
func (n *Node) follow(ctx context.Context) error {
	dirty := make(chan struct{}, 1)
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		n.saveMaps(ctx, dirty)
	}()
	defer func() { <-saved }()

	// A key given to this start may bring a forgotten device back, once; a device
	// deleted while it ran stays away until a person restarts it.
	mayRejoin := n.cfg.RegKey != ""
	connectedOnce := false
	for {
		m := n.roster.current()
		err := n.client.Watch(ctx, controlclient.WatchConfig{
			Credential: n.token(), Epoch: m.Epoch, Since: m.Revision,
			On: func(ev controlapi.Event) { n.event(ev, dirty) },
			OnState: func(connected bool, err error) {
				if connected && !connectedOnce {
					connectedOnce, mayRejoin = true, false
					n.keepService()
				}
				n.service(connected, err)
			},
		})
		if ctx.Err() != nil {
			return nil
		}
		n.expelled(err)
		if !mayRejoin || !n.rejoin(ctx) {
			<-ctx.Done()
			return nil
		}
		mayRejoin = false
		n.applyMap(n.roster.current())
	}
}

// rejoin joins again, however often that is refused; false: ctx ended first.
func (n *Node) rejoin(ctx context.Context) bool {
	for {
		err := n.join(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		n.serviceError(err)
		n.log.Error("join again", logkey.Err, err, logkey.Wait, rejoinDelay)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(rejoinDelay):
		}
	}
}

// expelled is called when the service does not know the device any more: it
// is nobody's peer, and nothing of the mesh reaches it.
func (n *Node) expelled(err error) {
	n.log.Error("the service no longer knows this device: start it with a registration key to join again", logkey.Err, err)
	n.mu.Lock()
	n.credential = ""
	l := &n.life
	l.expelled, l.err = true, nil
	if l.connected {
		l.connected, l.since = false, time.Now()
	}
	if l.state != localapi.StateDraining {
		l.state = localapi.StateJoining
	}
	n.mu.Unlock()
	n.changed.notify()
	if err := n.store.Update(func(d *state.Data) { d.Credential, d.Map = "", nil }); err != nil {
		n.log.Warn("forget the void credential", logkey.Err, err)
	}
	self := controlapi.Device{}
	if m := n.roster.current(); m != nil {
		self.Name, self.PublicKey = m.Self.Name, m.Self.PublicKey
	}
	m := &controlapi.Map{Self: self}
	n.applyMap(m)
}

// event applies one line of the stream.
func (n *Node) event(ev controlapi.Event, dirty chan<- struct{}) {
	switch ev.Type {
	case controlapi.EventSnapshot, controlapi.EventDelta:
		next := *n.roster.current() // Apply replaces slices, readers keep theirs
		m := &next
		controlclient.Apply(m, ev)
		n.applyMap(m)
		n.log.Debug("membership changed", logkey.Revision, m.Revision, logkey.Count, len(m.Peers))
		select {
		case dirty <- struct{}{}:
		default: // a save is due already
		}
	case controlapi.EventRelays:
		next := *n.roster.current()
		m := &next
		controlclient.Apply(m, ev)
		n.roster.set(m) // the credential, before it is asked for
		n.applyRelays(m)
		n.plane.relays.Wake()
		n.changed.notify()
		select {
		case dirty <- struct{}{}:
		default:
		}
	case controlapi.EventSignal:
		if ev.Signal != nil {
			n.plane.agent.HandleSignal(ev.Signal.From, ev.Signal.Payload)
		}
	}
}

// saveMaps writes the map some time after each change, and at the end.
func (n *Node) saveMaps(ctx context.Context, dirty <-chan struct{}) {
	save := func() {
		m := n.roster.current()
		err := n.store.Update(func(d *state.Data) {
			if d.Credential != "" {
				d.Map = m
			}
		})
		if err != nil {
			n.log.Warn("keep the map of the mesh: a start without the service would use an older one", logkey.Err, err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			save()
			return
		case <-dirty:
		}
		select {
		case <-ctx.Done():
		case <-time.After(saveDelay):
		}
		save()
	}
}

// applyMap tells every part who is in the mesh.
func (n *Node) applyMap(m *controlapi.Map) {
	if err := n.plane.stack.SetAddresses(m.Self.Addresses); err != nil {
		n.log.Error("set the device's addresses", logkey.Err, err)
	}
	peers := make([]tunnel.Peer, 0, len(m.Peers))
	for _, p := range m.Peers {
		peers = append(peers, tunnel.Peer{Key: p.PublicKey, Addresses: p.Addresses})
	}
	n.plane.sizes.members(m.Peers)
	n.plane.tunnel.SetPeers(peers)
	n.applyRelays(m)
	n.roster.set(m) // last: whoever finds a peer here can reach it
	n.engine.AddressesChanged()
	n.changed.notify()
}

// applyRelays tells who is where: the relays, the peers at them, and the STUN
// servers, which relays are as well.
func (n *Node) applyRelays(m *controlapi.Map) {
	n.plane.relays.SetRelays(n.relays.infos(n, m.Relays.Relays))
	n.plane.relaysChanged()
	number := n.plane.relayNumbers()
	peers := make([]discovery.Peer, 0, len(m.Peers))
	for _, p := range m.Peers {
		peer := discovery.Peer{Key: p.PublicKey}
		for _, id := range p.Relays {
			if x, ok := number[id]; ok {
				peer.Relays = append(peer.Relays, x)
			}
		}
		peers = append(peers, peer)
	}
	n.plane.agent.SetPeers(peers)
	n.plane.agent.SetSTUN(n.stunServers(m))
}

// stunServers returns the configured servers, or those of the service and of
// its relays.
func (n *Node) stunServers(m *controlapi.Map) []string {
	if len(n.cfg.STUNServers) > 0 {
		return n.cfg.STUNServers
	}
	out := n.nearService(m.STUN)
	for _, r := range m.Relays.Relays[:min(len(m.Relays.Relays), maxSTUNRelays)] {
		for _, a := range n.nearService(r.UDP) {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// maxSTUNRelays bounds how many relays are asked how they see this device: two
// are enough, some may be away.
const maxSTUNRelays = 4
