package control

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/key"
	"nexd/relay"
)

// Names of settings in the store that make the service's own relay the same
// one over restarts, and credentials hold.
const (
	settingIssuer   = "relay_issuer"
	settingRelayKey = "relay_key"
	settingRelayID  = "relay_id"
)

const (
	maxSockets   = 8 // that share the UDP port
	embeddedName = "service"
	relayPath    = "/v1/relay" // of the route in [Service.server]
)

// relayTask is the service's own relay: UDP on the port it shares with STUN,
// and WebSocket on the HTTPS port.
type relayTask struct {
	server  *relay.Server
	sockets []*relay.Socket // none: WebSocket alone
	others  *relay.Others   // STUN
	entry   controlapi.Relay
	log     *slog.Logger
	failed  failure
}

// issuerKey is the key that signs relay credentials, made once.
func issuerKey(ctx context.Context, st store.Store) (ed25519.PrivateKey, error) {
	text, err := st.Setting(ctx, settingIssuer, func() (string, error) {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return "", err
		}
		return base64.StdEncoding.EncodeToString(private.Seed()), nil
	})
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("issuer key of relay credentials in the database: want a seed of 32 bytes")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// newRelayTask makes the relay with its keys; listen gives it sockets.
func newRelayTask(ctx context.Context, cfg *Config, st store.Store, issuer ed25519.PrivateKey) (*relayTask, error) {
	text, err := st.Setting(ctx, settingRelayKey, func() (string, error) { return key.NewPrivate().Reveal(), nil })
	if err != nil {
		return nil, err
	}
	private, err := key.ParsePrivate(text)
	if err != nil {
		return nil, fmt.Errorf("relay key in the database: %w", err)
	}
	id, err := st.Setting(ctx, settingRelayID, func() (string, error) { return store.NewID("relay"), nil })
	if err != nil {
		return nil, err
	}
	t := &relayTask{log: cfg.Log, others: relay.NewOthers()} // without sockets nothing comes to others
	t.server, err = relay.NewServer(relay.ServerConfig{
		Private: private, Issuers: []ed25519.PublicKey{issuer.Public().(ed25519.PublicKey)}, Other: t.others.Take, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	t.entry = controlapi.Relay{ID: id, Name: embeddedName, PublicKey: t.server.Public(), URL: relayPath}
	return t, nil
}

// listen binds the UDP sockets: one for each processor up to maxSockets, between
// which the system spreads the clients.
func (t *relayTask) listen(ctx context.Context, cfg *Config, address string) (err error) {
	if t.sockets, err = relay.Listen(ctx, address, min(runtime.GOMAXPROCS(0), maxSockets), cfg.Log); err != nil {
		return err
	}
	t.entry.UDP = advertisedRelay(cfg, t.addr().Port())
	return nil
}

// advertisedRelay is what devices are told of the relay's UDP port.
func advertisedRelay(cfg *Config, port uint16) []string {
	if cfg.RelayAddress.IsValid() {
		return []string{netip.AddrPortFrom(cfg.RelayAddress, port).String()}
	}
	return advertisedSTUN(cfg.STUNListen, port)
}

// addr is the address of the UDP sockets; invalid without any.
func (t *relayTask) addr() netip.AddrPort {
	if len(t.sockets) == 0 {
		return netip.AddrPort{}
	}
	return addrPort(t.sockets[0].LocalAddr())
}

// run serves until ctx ends. It fails alone: the API goes on, /readyz tells.
func (t *relayTask) run(ctx context.Context) {
	err := t.server.Run(ctx, t.sockets...)
	if ctx.Err() != nil {
		return
	}
	t.log.Error("relay ended: restart the service", logkey.Reason, t.failed.note(err))
}

// close releases the sockets of a relay that was not run.
func (t *relayTask) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// What was run before refuses, and has closed them itself.
	_ = t.server.Run(ctx, t.sockets...)
	t.others.Close()
}

// ServeHTTP takes a WebSocket client. The deadlines of requests end where the
// relay takes the connection over.
func (t *relayTask) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		writeProblem(w, problem(http.StatusUpgradeRequired, controlapi.CodeInvalid, "this path is for relay clients: a WebSocket over HTTP/1.1",
			"a reverse proxy in front has to pass the headers Upgrade and Connection on"))
		return
	}
	t.server.ServeHTTP(w, r)
}

// drain asks the clients to use another relay. Where there is one, they have
// until they left or grace is over.
func (t *relayTask) drain(ctx context.Context, another bool, grace time.Duration) {
	t.server.Drain()
	if !another {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if st := t.server.Stats(); st.SessionsUDP+st.SessionsTLS == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// holdPort takes a UDP port as the only one who has it: the relay's sockets
// share theirs, and would share it with another program of this user, too. The
// caller closes it.
func holdPort(ctx context.Context, address string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, "udp", address)
}

// samePort is address with the port that was given for 0.
func samePort(address string, port uint16) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
