package control

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/internal/selfcert"
	"nexd/internal/sockerr"
	"nexd/internal/stunserver/stunmetrics"
	"nexd/key"
	"nexd/relay/relaymetrics"
)

// Names of settings in the store.
const (
	settingEpoch     = "epoch"
	settingHistory   = "revisions"
	settingAdmin     = "admin_token_hash"
	settingChallenge = "challenge_key"
)

// Attributes of log lines that only this package has.
const (
	logID     = "id"
	logRegKey = "reg_key"
	logRelay  = "relay"
)

const defaultNetwork = "default"

// Service is the control service. [New] opens everything, [Service.Run] runs it.
type Service struct {
	cfg     Config
	log     *slog.Logger
	url     string   // public URL, without a trailing slash
	base    string   // path of the public URL, without a trailing slash
	lock    *os.File // of the state directory
	dbLock  *os.File // of a database elsewhere; nil: there is none
	store   store.Store
	cert    *selfcert.Certificate
	https   net.Listener
	udpPort net.PacketConn // holds the port for the relay's sockets until they are made
	relay   *relayTask
	relays  *relays
	stun    *stunTask
	hub     *hub
	metrics *metrics

	adminHash  store.Hash
	challenger *challenger
	joins      *joinLimit
	signals    *limiter[string]
	updates    *limiter[string]
	streams    *limiter[string]
	writable   writeCheck

	ready  chan struct{}
	ran    sync.Once
	closed sync.Once
}

// New opens the state directory, the database and the sockets, and starts
// nothing. Its errors name what to change. A service that is not run has to be
// closed.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s := &Service{
		cfg: cfg, log: cfg.Log, metrics: newMetrics(), ready: make(chan struct{}),
		joins:   newJoinLimit(cfg.JoinRate, cfg.JoinRateAll),
		signals: newLimiter[string](cfg.SignalRate, 16<<10),
		updates: newLimiter[string](cfg.UpdateRate, 16<<10),
		// Room for all devices at once: they all come when the service restarts.
		streams: newLimiter[string](cfg.UpdateRate, 128<<10),
	}
	if err := s.open(context.Background()); err != nil {
		s.Close()
		return nil, databaseError(err)
	}
	return s, nil
}

// open does first what can fail by a wrong flag.
func (s *Service) open(ctx context.Context) error {
	var err error
	if err := s.loadGiven(); err != nil {
		return err
	}
	if s.lock, err = lockDir(s.cfg.StateDir); err != nil {
		return err
	}
	if s.dbLock, err = lockDatabase(&s.cfg); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	db, err := store.OpenSQLite(ctx, databasePath(&s.cfg), s.log)
	if err != nil {
		return err
	}
	s.store = db
	if err := s.nameItself(ctx); err != nil {
		return err
	}
	if err := s.setUpAdmin(ctx); err != nil {
		return err
	}
	if err := s.setUpChallenges(ctx); err != nil {
		return err
	}
	if err := s.setUpRelay(ctx); err != nil {
		return err
	}
	return s.setUpNetwork(ctx)
}

func databasePath(cfg *Config) string {
	if u, err := url.Parse(cfg.DatabaseURL); err == nil && u.Scheme == "sqlite" {
		return u.Path
	}
	return filepath.Join(cfg.StateDir, databaseFile)
}

func (s *Service) listen(ctx context.Context) error {
	lc := net.ListenConfig{
		Control:         controlListener,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3},
	}
	var err error
	if s.https, err = lc.Listen(ctx, "tcp", s.cfg.Listen); err != nil {
		return sockerr.Listen("--listen", s.cfg.Listen, err)
	}
	if s.cfg.STUNListen != stunOff {
		if s.udpPort, err = holdPort(ctx, s.cfg.STUNListen); err != nil {
			return sockerr.Listen("--stun-listen", s.cfg.STUNListen, err)
		}
	}
	return nil
}

// nameItself settles the public URL, and the certificate that goes with it.
func (s *Service) nameItself(ctx context.Context) error {
	if s.cfg.PublicURL != "" {
		u, err := controlapi.ParseServiceURL(s.cfg.PublicURL)
		if err != nil {
			return fmt.Errorf("--public-url: %w", err)
		}
		s.url = u
	} else {
		var given *x509.Certificate
		if s.cert != nil {
			given = s.cert.Leaf()
		}
		s.url = derivePublicURL(ctx, s.cfg.Listen, addrPort(s.https.Addr()).Port(), given)
		s.log.Warn("no --public-url: registration keys will name this one", logkey.URL, s.url)
	}
	host := ""
	if u, err := url.Parse(s.url); err == nil {
		host, s.base = u.Hostname(), strings.TrimRight(u.Path, "/")
	}
	if s.cert != nil {
		s.cert.ServeAs(host)
		return nil
	}
	return s.makeOwn(certNames(host, s.cfg.Listen))
}

func (s *Service) setUpChallenges(ctx context.Context) error {
	text, err := s.store.Setting(ctx, settingChallenge, func() (string, error) { return key.NewPrivate().Reveal(), nil })
	if err != nil {
		return err
	}
	private, err := key.ParsePrivate(text)
	if err != nil {
		return fmt.Errorf("challenge key in the database: %w", err)
	}
	s.challenger, err = newChallenger(private, s.cfg.ChallengeLife)
	return err
}

// setUpRelay makes the own relay, its sockets, and STUN, which shares them.
func (s *Service) setUpRelay(ctx context.Context) error {
	issuer, err := issuerKey(ctx, s.store)
	if err != nil {
		return err
	}
	if s.relay, err = newRelayTask(ctx, &s.cfg, s.store, issuer); err != nil {
		return err
	}
	if s.udpPort != nil {
		address := samePort(s.cfg.STUNListen, addrPort(s.udpPort.LocalAddr()).Port())
		if err := s.udpPort.Close(); err != nil {
			return err
		}
		s.udpPort = nil
		if err := s.relay.listen(ctx, &s.cfg, address); err != nil {
			return sockerr.Listen("--stun-listen", s.cfg.STUNListen, err)
		}
		s.stun = newSTUNTask(&s.cfg, s.relay.others)
		s.metrics.registry.MustRegister(stunmetrics.New(s.stun.server.Stats, s.relay.others.Dropped))
	} else {
		s.stun = newSTUNTask(&s.cfg, nil)
	}
	s.relays = newRelays(&s.cfg, s.store, issuer, s.relay)
	s.metrics.registry.MustRegister(relaymetrics.New(s.relay.server.Stats))
	return nil
}

func (s *Service) setUpNetwork(ctx context.Context) error {
	epoch, err := s.store.Setting(ctx, settingEpoch, func() (string, error) { return store.NewID("epoch"), nil })
	if err != nil {
		return err
	}
	n, err := s.store.EnsureNetwork(ctx, defaultNetwork, controlapi.DefaultDomain, s.cfg.NetworkCIDR, randomULA())
	if err != nil {
		var r *store.RangeError
		if errors.As(err, &r) {
			return fmt.Errorf("--network-cidr: %w", r)
		}
		return err
	}
	past, n, err := continueHistory(ctx, s.store, n, time.Now())
	if err != nil {
		return err
	}
	if err := s.store.PruneTombstones(ctx, n.ID, s.cfg.KeepTombstones); err != nil {
		return err
	}
	var stun []string
	if addr := s.relay.addr(); addr.IsValid() {
		stun = advertisedSTUN(s.cfg.STUNListen, addr.Port())
	}
	s.hub = newHub(n, epoch, past, s.store, &s.cfg, s.metrics, stun, s.relays)
	s.relays.tell = s.hub.tellRelays
	s.metrics.follow(s.hub)
	return nil
}

// randomULA makes a unique local /64 (RFC 4193 section 3.2.2) of random bits.
func randomULA() netip.Prefix {
	var b [16]byte
	rand.Read(b[1:6]) // global id; subnet 0
	b[0] = 0xfd
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// Addr is the address of the HTTPS listener.
func (s *Service) Addr() netip.AddrPort { return addrPort(s.https.Addr()) }

// STUNAddr is the UDP address of STUN and the relay; invalid without one.
func (s *Service) STUNAddr() netip.AddrPort { return s.relay.addr() }

// URL is the public URL, as registration keys carry it.
func (s *Service) URL() string { return s.url }

// Ready is closed when requests are answered.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// String names the task.
func (s *Service) String() string { return "control service" }

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort()
	case *net.UDPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// Close releases what New opened. Run does it itself. It may be called more than once.
func (s *Service) Close() error {
	var errs []error
	s.closed.Do(func() {
		if s.https != nil {
			if err := s.https.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		if s.udpPort != nil {
			errs = append(errs, s.udpPort.Close())
		}
		if s.relay != nil {
			s.relay.close()
		}
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
		if s.dbLock != nil {
			errs = append(errs, s.dbLock.Close())
		}
		if s.lock != nil {
			errs = append(errs, s.lock.Close()) // last: it keeps others out
		}
	})
	return errors.Join(errs...)
}

func (s *Service) server() *http.Server {
	mux := http.NewServeMux()
	s.newAPI(mux)
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.Handle("GET /v1/relay", s.relay)
	return &http.Server{
		Handler: s.handler(mux),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: s.cert.Get,
			NextProtos:     []string{"h2", "http/1.1"},
		},
		// No ReadTimeout or WriteTimeout: they would cut streams. The handler
		// sets deadlines per request.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes that strangers fail
	}
}
