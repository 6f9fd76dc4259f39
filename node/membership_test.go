package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"nexd/controlapi"
	"nexd/localapi"
	"nexd/state"
	"nexd/test/need"
)

// A device the administrator deletes is out at once, and its daemon lives on.
func TestDeletedDevice(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.talk()
	if err := p.admin.DeleteDevice(t.Context(), "client"); err != nil {
		t.Fatal(err)
	}
	st := p.client.await("expelled and alone", func(st localapi.Status) bool { return isExpelled(st) && len(st.Peers) == 0 })
	if st.State != localapi.StateJoining || st.Service.Connected || st.Device.Name != "client" || len(st.Device.Addresses) != 0 {
		t.Errorf("status of the deleted device: %+v", st)
	}
	p.server.knows()
	if _, err := p.client.api.Status(t.Context()); err != nil {
		t.Errorf("the daemon of a deleted device does not answer: %v", err)
	}
	if err := tryConverse(t, p.tcp, 10); err == nil {
		t.Error("traffic of a deleted device goes on")
	}
	if _, err := p.client.api.Ping(t.Context(), "server", 0); err == nil {
		t.Error("a deleted device can ping")
	}

	// It does not come back by itself; a person restarts it with a key.
	p.client.stop()
	key := p.client.cfg.RegKey
	p.client.cfg.RegKey = ""
	usage := (*UsageError)(nil)
	if n, err := New(p.client.cfg); !errors.As(err, &usage) || !strings.Contains(usage.Hint, "--reg-key") {
		t.Fatalf("restart without a key: %v, %v", n, err)
	}
	p.client.cfg.RegKey = key
	p.client.start()
	p.client.await("running", isRunning)
	p.server.knows("client")
	p.client.knows("server")
	converse(t, p.tcp, 1000)
}

// A device deleted while it was away joins again when its start has a key.
func TestDeletedWhileAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.join("away")
	before := m.n.Status().Device
	m.stop()
	if err := w.admin.DeleteDevice(t.Context(), "away"); err != nil {
		t.Fatal(err)
	}
	m.start()
	st := m.await("running again as another device", func(st localapi.Status) bool {
		return isRunning(st) && st.Device.ID != before.ID
	})
	if st.Device.Name != "away" || st.Device.PublicKey != before.PublicKey {
		t.Errorf("device %+v, want the key and name of %+v", st.Device, before)
	}
	m.stop()

	// The key may be void by now: the node says so, and stays.
	if err := w.admin.DeleteDevice(t.Context(), "away"); err != nil {
		t.Fatal(err)
	}
	keys, err := w.admin.RegKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	if err := w.admin.DeleteRegKey(t.Context(), keys[0].ID); err != nil {
		t.Fatal(err)
	}
	m.start()
	m.await("expelled, with the refusal", func(st localapi.Status) bool {
		return isExpelled(st) && !strings.HasSuffix(st.Reasons[0], "key")
	})
	m.stop()
}

// An expired or deleted key never breaks a restart.
func TestKeyIsNeededOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.member("once", func(c *Config) { c.RegKey = w.key(controlapi.RegKeyRequest{SingleUse: true}) })
	m.start()
	first := m.await("running", isRunning)
	m.stop()
	m.start() // with the key that is used up
	st := m.await("running", isRunning)
	if st.Device.ID != first.Device.ID || st.Device.Addresses[0] != first.Device.Addresses[0] {
		t.Errorf("after a restart: %+v, before: %+v", st.Device, first.Device)
	}
}

func TestEphemeralDeviceLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stays := w.join("stays")
	guest := w.join("guest", func(c *Config) { c.Ephemeral, c.StateDir = true, "" })
	stays.knows("guest")
	guest.stop()
	if got := w.names(); got != "stays" {
		t.Errorf("the service knows %q after the guest stopped", got)
	}
	stays.knows()
	if st := guest.n.Status(); st.State != localapi.StateDraining {
		t.Errorf("the guest ended as %s: %v", st.State, st.Reasons)
	}

	// It leaves, too, when it joined and could not go on.
	busy, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	w.member("stuck", func(c *Config) {
		c.Ephemeral, c.StateDir = true, ""
		c.ListenPort = busy.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}).refused()
	if got := w.names(); got != "stays" {
		t.Errorf("the service knows %q after a start that failed", got)
	}
}

// A refused join ends the start with what to write instead.
func TestRefusedJoins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	taken := w.join("taken")
	alter := func(c *Config, f func(*controlapi.RegKey)) {
		k, err := controlapi.ParseRegKey(c.RegKey)
		if err != nil {
			t.Fatal(err)
		}
		f(&k)
		c.RegKey = k.String()
	}
	for _, tc := range []struct {
		name   string
		change func(*Config)
	}{
		{"wrong secret", func(c *Config) { alter(c, func(k *controlapi.RegKey) { k.Secret = "guessed" }) }},
		{"wrong pin", func(c *Config) {
			alter(c, func(k *controlapi.RegKey) { k.Pin = controlapi.PinOf([]byte("another key")) })
		}},
		{"no pin", func(c *Config) { alter(c, func(k *controlapi.RegKey) { k.Pin = "" }) }},
		{"taken name", func(c *Config) { c.Hostname = "taken" }},
		{"taken address", func(c *Config) { c.RequestIP = taken.address() }},
		{"address outside", func(c *Config) { c.RequestIP = netip.MustParseAddr("192.0.2.1") }},
	} {
		usage := w.member("newcomer", tc.change).refused()
		t.Logf("%s: %s; %s", tc.name, usage.Message, usage.Hint)
	}
	if got := w.names(); got != "taken" {
		t.Errorf("after refused joins the service knows %q", got)
	}
	numbered := w.join("taken", func(c *Config) { c.OnNameTaken = controlapi.NameNumber })
	if name := numbered.n.Status().Device.Name; name == "taken" || !strings.HasPrefix(name, "taken") {
		t.Errorf("a numbered name is %q", name)
	}
	asked := netip.MustParseAddr("100.64.7.7")
	if got := w.join("asks", func(c *Config) { c.RequestIP = asked }).address(); got != asked {
		t.Errorf("asked for %s and got %s", asked, got)
	}
}

func TestListenPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.join("port")
	first := m.n.store.Data().ListenPort
	if first == 0 || first != m.n.plane.bind.Port() {
		t.Fatalf("the port is %d, remembered %d", m.n.plane.bind.Port(), first)
	}
	m.stop()
	// From here on another is remembered: one that nobody is given while the node is down.
	first = need.Port(t)
	store, err := state.Open(m.cfg.StateDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Update(func(d *state.Data) { d.ListenPort = first }), store.Close()); err != nil {
		t.Fatal(err)
	}
	m.start()
	m.await("running", isRunning)
	if got := m.n.plane.bind.Port(); got != first {
		t.Errorf("after a restart the port is %d, want %d", got, first)
	}
	m.stop()

	busy, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(first)})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	m.start()
	m.await("running", isRunning)
	other := m.n.plane.bind.Port()
	if other == first || m.n.store.Data().ListenPort != other {
		t.Errorf("with port %d taken: port %d, remembered %d", first, other, m.n.store.Data().ListenPort)
	}
	m.stop()

	m.cfg.ListenPort = first
	if usage := m.refused(); !strings.Contains(usage.Message, fmt.Sprint(first)) {
		t.Errorf("a taken --listen-port: %q", usage.Message)
	}
}

func TestSecondNodeOnTheSameState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.join("first")
	locked := (*state.LockedError)(nil)
	if n, err := New(m.cfg); !errors.As(err, &locked) {
		t.Fatalf("second New = %v, %v; want a *state.LockedError", n, err)
	}
	// With its own state it still cannot have the socket, and joins nothing.
	second := w.member("second", func(c *Config) { c.UnixSocket = m.cfg.UnixSocket })
	second.start()
	if err := second.ended(); err == nil {
		t.Error("a second daemon took the socket of the first")
	}
	if got := w.names(); got != "first" {
		t.Errorf("the service knows %q", got)
	}
	m.await("running", isRunning)
	m.stop()
	n, err := New(m.cfg)
	if err != nil {
		t.Fatalf("New after the first ended: %v", err)
	}
	n.Close()
}

// State that cannot be written after the join stops nothing, but is told at the end.
func TestUnwritableState(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	m := p.member("third", withRules(egress(t, fmt.Sprintf("tcp:%d:server:80", need.Port(t)))))
	n, err := New(m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	free := blockWrites(t, m.cfg.StateDir)
	m.run(n)
	m.await("running", isRunning)
	converse(t, portOf(m.cfg.Rules[0]), 1000)
	m.cancel()
	if err := m.ended(); err == nil {
		t.Error("a node that could not keep its credential ends without a word")
	}
	free()

	// One that has its state runs from a read-only directory as well.
	block := blockWrites(t, p.client.cfg.StateDir)
	p.client.cancel()
	p.client.ended() // what changed last may not be kept
	p.client.cfg.RegKey = ""
	p.client.start()
	p.client.await("running", isRunning)
	converse(t, p.tcp, 1000)
	block()
	p.client.stop()
}

// Without --hostname the name is made from the machine's, and numbered when it is taken.
func TestNameFromTheMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unnamed := func(c *Config) { c.Hostname = "" }
	one, two := w.join("", unnamed), w.join("", unnamed)
	a, b := one.n.Status().Device.Name, two.n.Status().Device.Name
	if a == "" || !strings.HasPrefix(b, a) || a == b {
		t.Errorf("names %q and %q", a, b)
	}
	one.knows(b)
}

// The addresses a node is reached at from outside, and the STUN servers it
// asks, are what the configuration and the service say together.
func TestPlacesFromConfigAndService(t *testing.T) {
	t.Parallel()
	cfg := Config{Ephemeral: true, RegKey: testRegKey, Endpoint: "127.0.0.1:51820"}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if got := fmt.Sprint(n.staticEndpoints()); got != "[127.0.0.1:51820]" {
		t.Errorf("static endpoints %s", got)
	}
	m := &controlapi.Map{STUN: []string{":3478", "stun.example:19302"}}
	if got := fmt.Sprint(n.stunServers(m)); got != "[service.invalid:3478 stun.example:19302]" {
		t.Errorf("STUN servers %s", got)
	}
	n.cfg.STUNServers = []string{"own.example:3478"}
	if got := fmt.Sprint(n.stunServers(m)); got != "[own.example:3478]" {
		t.Errorf("STUN servers %s, with own ones", got)
	}
	n.cfg.Endpoint = "host.invalid:51820"
	if got := n.staticEndpoints(); len(got) != 0 {
		t.Errorf("an endpoint that does not resolve gives %v", got)
	}
	if n.ownRange(netip.MustParseAddr("100.64.0.1")) {
		t.Error("nobody's map has a range")
	}
	n.roster.set(&controlapi.Map{Network: controlapi.Network{CIDRs: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}}})
	if !n.ownRange(netip.MustParseAddr("100.64.0.1")) || n.ownRange(netip.MustParseAddr("192.0.2.1")) {
		t.Error("the mesh's own range is not known")
	}
}
