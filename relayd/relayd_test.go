package relayd

import (
	"crypto/ed25519"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/internal/durable"
	"nexd/internal/opsport/opsporttest"
	"nexd/internal/sockerr"
	"nexd/internal/stunwire"
	"nexd/relay"
)

// A relay registers, and devices reach each other through it, over UDP and over
// TLS with the pin the service tells them.
func TestDevicesMeetThroughARegisteredRelay(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	r := start(t, cfg, l).serves()
	a := s.last().RelayAddress
	if len(a.UDP) != 1 || a.UDP[0] != r.UDPAddr().String() || a.URL != "https://"+r.WebAddr().String()+"/v1/relay" || a.Pin == "" {
		t.Errorf("the service was told %+v", a)
	}
	if s.public != r.Public() {
		t.Error("the service was told another key")
	}
	udp, tls := s.device("net", relay.UDP, time.Hour).connected(), s.device("net", relay.TLS, time.Hour).connected()
	udp.reaches(tls, "from udp to tls")
	tls.reaches(udp, "from tls to udp")
	if tls.pins.Load() == 0 {
		t.Error("no handshake with the pinned key")
	}
	s.heartbeats(2)
	if s.last().Version != "test" || s.last().Draining {
		t.Errorf("heartbeat %+v", s.last())
	}
	askSTUN(t, r.UDPAddr())
	checkMetrics(t, r)
	if text := l.text(); strings.Contains(text, "credential-") || strings.Contains(text, s.RegKey().Secret) {
		t.Errorf("a secret is in the log:\n%s", text)
	}
}

// A relay whose service does not answer, ever again, goes on, also after a restart.
func TestARestartWithoutTheServiceServesAtOnce(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	r := start(t, cfg, l).serves()
	before := r.Public()
	one := s.device("net", relay.UDP, time.Hour).connected()
	s.Stop()
	waitFor(t, "offline", func() bool { return r.health.readiness().State == stateOffline })
	if !r.health.readiness().Ready {
		t.Error("a relay without its service is not ready")
	}
	r.stop()

	cfg.RegKey = "" // it was needed once
	r = start(t, cfg, l).serves()
	if r.Public() != before {
		t.Error("another key")
	}
	one.connected()
	two := s.device("net", relay.TLS, time.Hour).connected()
	one.reaches(two, "after the restart")

	s.Start()
	s.heartbeats(1)
	waitFor(t, "running", func() bool { return r.health.readiness().State == stateRunning })
	s.with(func() {
		if s.joins != 1 {
			t.Errorf("registered %d times", s.joins)
		}
	})
}

// What cannot be read again is not kept: a process killed at any moment has the
// old record or the new one.
func TestTheRecordIsOnDiskBeforeItIsTold(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	start(t, cfg, l).serves()
	content, err := os.ReadFile(filepath.Join(cfg.StateDir, recordName))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decodeRecord(content)
	if err != nil || rec.credential != "credential-1" || rec.id != "rly_1" || rec.name != "relay-1" || len(rec.issuers) != 1 ||
		rec.serviceURL != s.URL() || rec.pin != s.Pin() || rec.private.IsZero() {
		t.Errorf("the record is %v of %s", err, content)
	}
	entries, err := os.ReadDir(cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestRegistrationRefused(t *testing.T) {
	t.Run("a key for devices", func(t *testing.T) {
		s := newService(t)
		cfg, l := config(t, s)
		k := s.RegKey()
		k.Secret = deviceSecret
		cfg.RegKey = k.String()
		if usage := start(t, cfg, l).refused(); !strings.Contains(usage.Message, "is for devices") || !strings.Contains(usage.Hint, "--relay") {
			t.Errorf("%q, hint %q", usage.Message, usage.Hint)
		}
	})
	t.Run("no key", func(t *testing.T) {
		s := newService(t)
		cfg, _ := config(t, s)
		cfg.RegKey, cfg.StateDir = "", filepath.Join(cfg.StateDir, "new")
		_, err := New(cfg)
		if !errors.Is(err, errNotRegistered) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(cfg.StateDir); err == nil {
			t.Error("a directory was made")
		}
	})
	t.Run("no service", func(t *testing.T) {
		s := newService(t)
		cfg, _ := config(t, s)
		cfg.RegKey = "secret"
		var usage *UsageError
		if _, err := New(cfg); !errors.As(err, &usage) || !strings.Contains(usage.Message, "no control service") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another's certificate", func(t *testing.T) {
		s := newService(t)
		cfg, l := config(t, s)
		k := s.RegKey()
		k.Pin = controlapi.PinOf([]byte("another"))
		cfg.RegKey = k.String()
		if usage := start(t, cfg, l).refused(); !strings.Contains(usage.Message, "not the pinned one") {
			t.Errorf("%q", usage.Message)
		}
	})
	t.Run("ended while the service is away", func(t *testing.T) {
		s := newService(t)
		cfg, l := config(t, s)
		s.Stop()
		r := start(t, cfg, l)
		waitFor(t, "the reason", func() bool {
			st := r.health.readiness()
			return st.State == stateJoining && !st.Ready && strings.Contains(st.Reasons[0], "refuses connections")
		})
		if code, _ := opsporttest.Get(t, r.OpsAddr().String(), "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("readyz: %d", code)
		}
		r.stop()
	})
}

// Whoever has no credential of the service gets nothing, nor does a relay
// without issuers admit anybody.
func TestStrangersAreNotServed(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	start(t, cfg, l).serves()
	inside := s.device("net", relay.UDP, time.Hour).connected()
	other := newService(t)
	other.public = s.public
	other.with(func() { other.beats = []controlapi.RelayHeartbeat{s.last()} })
	other.device("net", relay.UDP, time.Hour).refusedFor(relay.RefusedCredential)
	other.device("net", relay.TLS, time.Hour).refusedFor(relay.RefusedCredential)
	s.device("net", relay.TLS, -time.Hour).refusedFor(relay.RefusedExpired)
	elsewhere := s.device("another network", relay.UDP, time.Hour).connected()
	elsewhere.Send(inside.public(), [][]byte{make([]byte, 40)})
	s.device("net", relay.TLS, time.Hour).connected().reaches(inside, "a neighbour")
	select {
	case got := <-inside.got:
		t.Errorf("%q came from another network", got)
	default:
	}
}

// A device that the service deleted loses its session and gets none with the
// credential it has, also after a restart of the relay.
func TestADeletedDeviceStaysOut(t *testing.T) {
	s := newService(t)
	s.page = 1
	cfg, l := config(t, s)
	r := start(t, cfg, l).serves()
	d, stays := s.device("net", relay.UDP, time.Hour).connected(), s.device("net", relay.TLS, time.Hour).connected()
	n := relay.NetworkOf("net")
	s.with(func() {
		for range 2 { // more than one page
			s.denied = append(s.denied, controlapi.RelayDenied{Network: n[:], Device: d.public(), Until: time.Now().Add(time.Hour).Truncate(time.Second)})
		}
	})
	d.endedFor(relay.ByeDenied)
	if stays.Status().Transport == relay.NoTransport {
		t.Error("another lost its session too")
	}
	waitFor(t, "both pages", func() bool { return r.book.read().next == 2 })
	if rec := r.book.read(); len(rec.denied) != 1 {
		t.Errorf("kept %+v", rec.denied)
	}
	again := func() *device { return s.deviceOf(d.private, "net", relay.UDP, time.Hour-time.Minute) }
	again().refusedFor(relay.RefusedCredential)
	s.Stop()
	r.stop()
	start(t, cfg, l).serves()
	again().refusedFor(relay.RefusedCredential)
	s.deviceOf(d.private, "net", relay.UDP, 2*time.Hour).connected() // given when it had joined again
}

// A relay that was deleted serves nobody, also after a restart without the
// service, until it registers again.
func TestADeletedRelayServesNobody(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	r := start(t, cfg, l).serves()
	s.heartbeats(1)
	d := s.device("net", relay.UDP, time.Hour).connected()
	s.with(func() { s.credential = "" })
	waitFor(t, "the end of service", func() bool {
		st := r.health.readiness()
		return !st.Ready && st.State == stateJoining && strings.Contains(st.Reasons[0], "no longer knows") && r.station.Load() == nil
	})
	waitFor(t, "the session's end", func() bool { return d.Status().Transport == relay.NoTransport })
	if code := getTLS(t, "https://"+r.WebAddr().String()+"/v1/relay"); code != http.StatusServiceUnavailable {
		t.Errorf("websocket: %d", code)
	}
	s.with(func() {
		if s.joins != 1 {
			t.Error("it came back by itself")
		}
	})
	r.stop()
	d.leave()

	bare := cfg
	bare.RegKey = ""
	if _, err := New(bare); !errors.Is(err, errNotRegistered) {
		t.Errorf("a start without a key: %v", err)
	}
	cfg.RelayListen = "127.0.0.1:0"
	start(t, cfg, l).serves()
	s.device("net", relay.UDP, time.Hour).connected()
	s.with(func() {
		if s.joins != 2 {
			t.Errorf("registered %d times", s.joins)
		}
	})
}

// A credential that went void while the relay was down, and a key: it registers again.
func TestAKeyBringsAForgottenRelayBack(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	start(t, cfg, l).serves().stop()
	s.with(func() { s.credential = "" })
	r := start(t, cfg, l)
	waitFor(t, "the second registration", func() bool { return r.book.read().credential == "credential-2" })
	r.serves()
	s.device("net", relay.UDP, time.Hour).connected()
}

// The service may sign with another key from now on.
func TestOtherIssuers(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	r := start(t, cfg, l).serves()
	old := s.device("net", relay.UDP, time.Hour).connected()
	_, issuer, _ := ed25519.GenerateKey(nil)
	both := [][]byte{s.issuer.Public().(ed25519.PublicKey), issuer.Public().(ed25519.PublicKey)}
	s.with(func() { s.issuer, s.issuers = issuer, both })
	waitFor(t, "the new issuer", func() bool { return len(r.book.read().issuers) == 2 })
	s.heartbeats(1) // what is on disk is told to the relay next
	s.device("net", relay.TLS, time.Hour).connected().reaches(old, "one service, two keys")
	s.with(func() { s.issuers = nil })
	old.endedFor(relay.ByeDenied)
	s.with(func() { s.issuers = [][]byte{{1, 2, 3}} })
	waitFor(t, "the complaint", func() bool { return strings.Contains(l.text(), "an issuer of 3 bytes") })
	if !r.health.readiness().Ready {
		t.Error("what cannot be read ended the relay")
	}
	s.with(func() { s.issuers = [][]byte{} })
	waitFor(t, "the end of service", func() bool { return r.station.Load() == nil })
}

// At the end the relay says so, to the service and to devices, and waits for them.
func TestDrain(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	cfg.DrainTimeout = time.Minute
	r := start(t, cfg, l).serves()
	leaver := s.device("net", relay.UDP, time.Hour).connected()
	stayer := s.device("net", relay.TLS, time.Hour).connected()
	r.cancel()
	waitFor(t, "the last heartbeat", func() bool { return s.last().Draining })
	waitFor(t, "draining", func() bool { return leaver.Status().Draining && stayer.Status().Draining })
	late := s.device("net", relay.UDP, time.Hour)
	late.refusedFor(relay.RefusedDraining)
	if st := r.health.readiness(); st.Ready || st.State != stateDraining {
		t.Errorf("%+v", st)
	}
	leaver.reaches(stayer, "still carried")
	select {
	case err := <-r.done:
		t.Fatalf("ended with sessions: %v", err)
	default:
	}
	leaver.leave()
	stayer.leave()
	r.stop()
}

func TestDrainHasAnEnd(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	cfg.DrainTimeout = 50 * time.Millisecond
	r := start(t, cfg, l).serves()
	d := s.device("net", relay.TLS, time.Hour).connected()
	r.stop()
	waitFor(t, "the session's end", func() bool { return d.Status().Transport == relay.NoTransport })
}

func TestPortsAndDirectoriesInUse(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	r := start(t, cfg, l).serves()
	var locked *durable.LockedError
	if _, err := New(cfg); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("the same directory: %v", err)
	}
	for flag, change := range map[string]func(*Config){
		"--relay-listen": func(c *Config) { c.RelayListen = r.UDPAddr().String() },
		"--listen":       func(c *Config) { c.Listen = r.WebAddr().String() },
		"--ops-listen":   func(c *Config) { c.OpsListen = r.OpsAddr().String() },
	} {
		other, _ := config(t, s)
		change(&other)
		var sock *sockerr.Error
		if _, err := New(other); !errors.As(err, &sock) || !strings.HasPrefix(sock.Message, flag+" ") || sock.Advice == "" {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if r.Run(t.Context()) == nil {
		t.Error("ran twice")
	}
}

// askSTUN sends a binding request to the relay's port.
func askSTUN(t *testing.T, to netip.AddrPort) {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id := stunwire.NewTxID()
	if _, err := conn.Write(stunwire.AppendRequest(nil, id)); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 1500)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stunwire.Parse(b[:n])
	if err != nil || m.ID != id || m.Mapped.String() != conn.LocalAddr().String() {
		t.Errorf("%+v, %v", m, err)
	}
}
