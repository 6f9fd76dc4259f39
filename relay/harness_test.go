package relay

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/key"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := runChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const patience = 20 * time.Second

// service signs credentials.
type service struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

func newService(t testing.TB) service {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return service{priv, pub}
}

func (s service) credential(device key.Public, network string, life time.Duration) []byte {
	return Credential{Device: device, Network: NetworkOf(network), Expires: time.Now().Add(life)}.Sign(s.private)
}

// testRelay is a server on loopback, by UDP and by WebSocket over TLS.
type testRelay struct {
	t       testing.TB
	service service
	private key.Private
	limits  Limits
	clock   func() time.Time
	other   func(*Socket, []byte, netip.AddrPort)

	server  *Server
	sockets []*Socket
	udp     netip.AddrPort
	web     *httptest.Server
	url     string                 // of another server with web's certificate; empty: web's
	front   atomic.Pointer[Server] // what web serves
	cancel  context.CancelFunc
	done    chan error
}

func newRelay(t testing.TB, change ...func(*testRelay)) *testRelay {
	t.Helper()
	r := &testRelay{t: t, service: newService(t), private: key.NewPrivate()}
	for _, c := range change {
		c(r)
	}
	r.web = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s := r.front.Load()
		if s == nil {
			http.Error(w, "no relay", http.StatusServiceUnavailable)
			return
		}
		s.ServeHTTP(w, req)
	}))
	r.web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	r.web.Listener = Listener(r.web.Listener)
	r.web.StartTLS()
	r.start("127.0.0.1:0")
	t.Cleanup(func() {
		r.stop()
		r.web.Close()
	})
	return r
}

// start runs a server on a UDP address.
func (r *testRelay) start(address string) {
	r.t.Helper()
	var log *slog.Logger
	if os.Getenv("RELAY_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := NewServer(ServerConfig{
		Private: r.private, Issuers: []ed25519.PublicKey{r.service.public}, Limits: r.limits,
		Other: r.other, Log: log, clock: r.clock,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	sockets, err := Listen(context.Background(), address, 2, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.server, r.sockets, r.cancel, r.done = s, sockets, cancel, make(chan error, 1)
	r.udp = netip.MustParseAddrPort(sockets[0].LocalAddr().String())
	go func(done chan error) { done <- s.Run(ctx, sockets...) }(r.done)
	waitFor(r.t, "the relay to run", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.running
	})
	r.front.Store(s)
}

func (r *testRelay) stop() {
	if r.cancel == nil {
		return
	}
	r.front.Store(nil)
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.cancel = nil
}
