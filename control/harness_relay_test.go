package control

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/key"
	"nexd/relay"
)

// station is a stand-alone relay under test.
type station struct {
	controlapi.RelayJoinResponse
	private key.Private
}

// relayWish is a relay's join without its proof.
func relayWish(secret, name string) controlapi.RelayJoinRequest {
	return controlapi.RelayJoinRequest{RegKey: secret, Name: name, Version: "1", RelayAddress: relayAddress(name)}
}

func relayAddress(name string) controlapi.RelayAddress {
	return controlapi.RelayAddress{UDP: []string{name + ".example.org:3478"}, URL: "https://" + name + ".example.org/v1/relay"}
}

// revision is that of the service's view of its network.
func (w *world) revision() uint64 {
	h := w.svc.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

func (w *world) tryJoinRelay(private key.Private, r controlapi.RelayJoinRequest) (station, *controlapi.Problem) {
	w.t.Helper()
	var c controlapi.Challenge
	if p, _ := w.send("POST", "/v1/challenge", "", nil, &c); p != nil {
		w.t.Errorf("challenge: %v", p)
	}
	r.PublicKey, r.Token = private.Public(), c.Token
	proof, err := private.Proof(c.ServerKey, controlapi.RelayProofLabel, r.Transcript())
	if err != nil {
		w.t.Error(err)
	}
	if r.Proof == nil {
		r.Proof = proof[:]
	}
	s := station{private: private}
	p, _ := w.send("POST", "/v1/relays", "", r, &s.RelayJoinResponse)
	return s, p
}

func (w *world) joinRelay(r controlapi.RelayJoinRequest) station {
	w.t.Helper()
	s, p := w.tryJoinRelay(key.NewPrivate(), r)
	if p != nil {
		w.t.Fatalf("join of relay %s: %v (%s)", r.Name, p, p.Hint)
	}
	return s
}

// relayRegKey makes a key for relays and returns its secret.
func (w *world) relayRegKey() string {
	w.t.Helper()
	return w.regKey(controlapi.RegKeyRequest{Role: controlapi.RoleRelay})
}

// stored is a device as the store has it.
func (w *world) stored(d device) store.Device {
	w.t.Helper()
	out, err := w.svc.store.Device(w.t.Context(), d.Network.ID, d.Device.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// beat reports as a relay.
func (w *world) beat(s station, change ...func(*controlapi.RelayHeartbeat)) controlapi.RelayHeartbeatAnswer {
	w.t.Helper()
	b := controlapi.RelayHeartbeat{RelayAddress: relayAddress(s.Name)}
	for _, f := range change {
		f(&b)
	}
	var out controlapi.RelayHeartbeatAnswer
	if p, _ := w.send("PUT", "/v1/relays/self", s.Credential, b, &out); p != nil {
		w.t.Fatalf("heartbeat of %s: %v", s.Name, p)
	}
	return out
}

// list waits for a list of relays that is as wanted, and returns it.
func (s *watching) list(what string, ok func(names []string) bool) *controlapi.RelayList {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case l := <-s.relays:
			if ok(relayNames(l)) {
				return l
			}
		case <-timeout:
			s.t.Fatalf("no list of relays %s", what)
		}
	}
}

func relayNames(l *controlapi.RelayList) (names []string) {
	for _, r := range l.Relays {
		names = append(names, r.Name)
	}
	return names
}

// relayed is a device's client of the service's own relay.
type relayed struct {
	*relay.Client
	device device
	got    chan string
	stop   func()
}

// relay starts a client with what the device was told, by UDP or by WebSocket.
func (w *world) relay(d device, list *controlapi.RelayList, udp bool) *relayed {
	w.t.Helper()
	at, err := list.Relays[0].At(w.base)
	if err != nil {
		w.t.Fatal(err)
	}
	out := &relayed{device: d, got: make(chan string, 64)}
	deliver := func(_ key.Public, packets [][]byte) {
		for _, packet := range packets {
			select {
			case out.got <- string(packet):
			default:
			}
		}
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := relay.ClientConfig{
		Private: d.private, Relay: at.PublicKey, Credential: func() []byte { return list.Credential }, Deliver: deliver,
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}
	if udp {
		cfg.UDP = at.UDP
		cfg.WriteUDP = func(packets [][]byte, to netip.AddrPort) error {
			for _, p := range packets {
				if _, err := conn.WriteToUDPAddrPort(p, to); err != nil {
					return err
				}
			}
			return nil
		}
	} else {
		cfg.URL, cfg.TLS = at.URL, w.http.Transport.(*http.Transport).TLSClientConfig
	}
	if out.Client, err = relay.NewClient(cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	read, ran := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if peer, packet, ok := out.HandleUDP(b[:n], from); ok {
				deliver(peer, [][]byte{packet})
			}
		}
	}()
	go func() { defer close(ran); out.Run(ctx) }()
	ended := false
	out.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		<-ran
		conn.Close()
		<-read
	}
	w.t.Cleanup(out.stop)
	return out
}

// connected waits for a session.
func (r *relayed) connected(t *testing.T, want relay.Transport) {
	t.Helper()
	eventually(t, "a session by "+want.String(), func() bool { return r.Status().Transport == want })
}

// reaches sends until the other side has got it.
func (r *relayed) reaches(t *testing.T, to *relayed, text string) {
	t.Helper()
	eventually(t, text, func() bool {
		r.Send(to.device.private.Public(), [][]byte{[]byte(text)})
		select {
		case got := <-to.got:
			return got == text
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
}
