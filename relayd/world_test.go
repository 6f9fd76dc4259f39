package relayd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
	"nexd/relay"
	"nexd/test/need"
)

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// log is a relay's log, to read while it runs.
type log struct {
	t  testing.TB
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// config is a relay's of a service, on free ports of loopback.
func config(t testing.TB, s *service) (Config, *log) {
	l := &log{t: t}
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", need.Port(t)) } // nobody is given it during a restart
	return Config{
		RegKey: s.RegKey().String(), StateDir: t.TempDir(), Name: "relay-1",
		RelayListen: port(), Listen: port(), OpsListen: "127.0.0.1:0",
		DrainTimeout: time.Second, Version: "test", heartbeat: 50 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, l
}

// running is a relay that runs.
type running struct {
	*Relay
	t      testing.TB
	log    *log
	cancel context.CancelFunc
	done   chan error
	ended  bool
}

// start runs a relay until the test ends or it is stopped.
func start(t testing.TB, cfg Config, l *log) *running {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Relay: r, t: t, log: l, cancel: cancel, done: make(chan error, 1)}
	go func() { run.done <- r.Run(ctx) }()
	t.Cleanup(func() {
		run.stop()
		if t.Failed() {
			t.Logf("log:\n%s", l.text())
		}
	})
	return run
}

// stop ends it and returns what Run did.
func (r *running) stop() error {
	if r.ended {
		return nil
	}
	r.ended = true
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
		return err
	case <-time.After(patience):
		r.t.Fatal("the relay does not end")
		return nil
	}
}

// refused waits for the end of a run that the service refuses.
func (r *running) refused() *UsageError {
	r.t.Helper()
	r.ended = true
	defer r.cancel()
	select {
	case err := <-r.done:
		var usage *UsageError
		if !errors.As(err, &usage) {
			r.t.Fatalf("Run: %v", err)
		}
		return usage
	case <-time.After(patience):
		r.t.Fatal("the relay runs on")
		return nil
	}
}

// serves waits until devices are served.
func (r *running) serves() *running {
	r.t.Helper()
	waitFor(r.t, "the relay to serve", func() bool { return r.health.readiness().Ready })
	return r
}

// relay is what devices are told of it.
func (s *service) relay() (info controlapi.Relay) {
	a := s.last().RelayAddress
	s.with(func() {
		info = controlapi.Relay{ID: "rly_1", Name: "relay-1", PublicKey: s.public, UDP: a.UDP, URL: a.URL, Pin: a.Pin}
	})
	return info
}

// device is a member with a session, or one that tries to have it.
type device struct {
	*relay.Client
	t       testing.TB
	private key.Private
	conn    *net.UDPConn // nil: WebSocket alone
	got     chan string
	pins    atomic.Int64 // handshakes whose certificate had the right pin
	cancel  context.CancelFunc
	done    chan error
	gone    sync.Once
}

// device starts a client of the relay that the service tells of.
func (s *service) device(network string, by relay.Transport, life time.Duration) *device {
	s.t.Helper()
	return s.deviceOf(key.NewPrivate(), network, by, life)
}

func (s *service) deviceOf(private key.Private, network string, by relay.Transport, life time.Duration) *device {
	s.t.Helper()
	d := &device{t: s.t, private: private, got: make(chan string, 256), done: make(chan error, 1)}
	info := s.relay()
	credential := s.admits(private.Public(), network, life)
	cfg := relay.ClientConfig{
		Private: private, Relay: info.PublicKey, Credential: func() []byte { return credential },
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		Deliver: func(_ key.Public, packets [][]byte) {
			for _, packet := range packets {
				d.take(packet)
			}
		},
	}
	if by == relay.UDP {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			s.t.Fatal(err)
		}
		d.conn, cfg.UDP, cfg.WriteUDP = conn, info.UDP, d.write
	} else {
		cfg.URL, cfg.TLS = info.URL, d.pinned(info.Pin)
	}
	var err error
	if d.Client, err = relay.NewClient(cfg); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() { d.done <- d.Run(ctx) }()
	if d.conn != nil {
		go d.read()
	}
	s.t.Cleanup(d.leave)
	return d
}

// pinned trusts a certificate by its pin alone.
func (d *device) pinned(pin controlapi.Pin) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(cs tls.ConnectionState) error {
		if !pin.Matches(cs.PeerCertificates[0].RawSubjectPublicKeyInfo) {
			return x509.UnknownAuthorityError{Cert: cs.PeerCertificates[0]}
		}
		d.pins.Add(1)
		return nil
	}}
}

func (d *device) write(packets [][]byte, to netip.AddrPort) error {
	for _, p := range packets {
		if _, err := d.conn.WriteToUDPAddrPort(p, to); err != nil {
			return err
		}
	}
	return nil
}

func (d *device) read() {
	b := make([]byte, 64<<10)
	for {
		n, from, err := d.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // such as the ICMP error of a relay that is gone
		}
		if _, packet, ok := d.HandleUDP(b[:n], from); ok {
			d.take(packet)
		}
	}
}

func (d *device) take(packet []byte) {
	select {
	case d.got <- strings.TrimRight(string(packet), "."):
	default:
	}
}

// leave ends the client.
func (d *device) leave() {
	d.gone.Do(func() {
		d.cancel()
		if err := <-d.done; err != nil {
			d.t.Errorf("client Run: %v", err)
		}
		if d.conn != nil {
			d.conn.Close()
		}
	})
}

func (d *device) public() key.Public { return d.private.Public() }

// connected waits for a session.
func (d *device) connected() *device {
	d.t.Helper()
	waitFor(d.t, "a session", func() bool { return d.Status().Transport != relay.NoTransport })
	return d
}

// refusedFor waits until the relay refuses the device for this reason.
func (d *device) refusedFor(reason relay.Refusal) {
	d.t.Helper()
	waitFor(d.t, "the refusal "+reason.String(), func() bool {
		var refused *relay.RefusedError
		return errors.As(d.Status().Err, &refused) && refused.Reason == reason
	})
}

// endedFor waits until the relay has ended the session for this reason.
func (d *device) endedFor(why relay.Farewell) {
	d.t.Helper()
	waitFor(d.t, "bye: "+why.String(), func() bool {
		var bye *relay.ByeError
		return errors.As(d.Status().Err, &bye) && bye.Reason == why
	})
}

// reaches sends until the packet arrives: a relay promises no more.
func (d *device) reaches(to *device, text string) {
	d.t.Helper()
	packet := []byte(text + strings.Repeat(".", max(0, 40-len(text))))
	waitFor(d.t, text, func() bool {
		d.Send(to.public(), [][]byte{packet})
		select {
		case got := <-to.got:
			return got == text
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
}
