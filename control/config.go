package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"nexd/controlapi"
	"nexd/internal/sockerr"
)

// Config is everything the service is told. Fields named after a flag carry
// that flag's meaning; the rest have defaults that only tests change.
type Config struct {
	Listen      string       // --listen: HTTPS address, host:port; port 0 takes a free one
	STUNListen  string       // --stun-listen: UDP address of STUN and the relay; "off" for none
	PublicURL   string       // --public-url: how devices reach the service; derived when empty
	StateDir    string       // --state-dir: database, certificate, admin.json; created 0700
	DatabaseURL string       // --database-url: "" is SQLite in StateDir/control.db
	NetworkCIDR netip.Prefix // --network-cidr: IPv4 range of the network; zero is 100.64.0.0/10
	TLSCert     string       // --tls-cert: PEM chain; with TLSKey, in place of the self-made certificate
	TLSKey      string       // --tls-key: PEM private key
	// RelayAddress is --relay-address: what devices are told to send relayed
	// packets to, with the port of STUNListen; the host they know the service by
	// when invalid.
	RelayAddress netip.Addr
	Log          *slog.Logger // nil discards
	Version      string       // program version, shown in /openapi.json

	Heartbeat      time.Duration // between heartbeats of a stream; default 15s
	Lease          time.Duration // an ephemeral device's time without a stream; default 60s
	FirstLease     time.Duration // its time between joining and its first stream; default 10m
	Quarantine     time.Duration // a freed address's rest before another device; default 10m
	ChallengeLife  time.Duration // validity of a challenge; default 60s
	RelayTimeout   time.Duration // silence after which a relay is left out of what devices are told; default 2m
	RelayLeaving   time.Duration // how long one that drains is still told of; default 10s
	RelayRenew     time.Duration // between credentials within one stream; default 12h
	RelayGrace     time.Duration // for clients of the own relay to go to another at the end; default 2s
	WriteTimeout   time.Duration // per write of a stream; a slower reader is dropped; default 10s
	ShutdownGrace  time.Duration // for requests under way at the end; default 5s
	QueueLength    int           // changes a stream may be behind before it gets a snapshot; default 64
	KeepTombstones int           // deletions remembered for resuming streams; default 10000
	JoinRate       Rate          // of challenges and joins per source address; default 20/s, burst 200
	JoinRateAll    Rate          // of challenges and joins altogether; default 200/s, burst 1000
	SignalRate     Rate          // of signals per device; default 50/s, burst 500
	UpdateRate     Rate          // of what a device or a relay says of itself, and of streams a device opens; default 1/s, burst 30
}

// Rate is a token bucket: so many events a second, and so many at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// DefaultCIDR is the shared address space of RFC 6598.
var DefaultCIDR = netip.MustParsePrefix("100.64.0.0/10")

// setDefaults fills in what was left empty.
func (c *Config) setDefaults() {
	if c.Listen == "" {
		c.Listen = ":8443"
	}
	if c.STUNListen == "" {
		c.STUNListen = ":3478"
	}
	if c.NetworkCIDR == (netip.Prefix{}) {
		c.NetworkCIDR = DefaultCIDR
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Heartbeat, 15 * time.Second},
		{&c.Lease, time.Minute},
		{&c.FirstLease, 10 * time.Minute},
		{&c.Quarantine, 10 * time.Minute},
		{&c.ChallengeLife, time.Minute},
		{&c.RelayTimeout, 2 * time.Minute},
		{&c.RelayLeaving, 10 * time.Second},
		{&c.RelayRenew, 12 * time.Hour},
		{&c.RelayGrace, 2 * time.Second},
		{&c.WriteTimeout, 10 * time.Second},
		{&c.ShutdownGrace, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.QueueLength <= 0 {
		c.QueueLength = 64
	}
	if c.KeepTombstones <= 0 {
		c.KeepTombstones = 10_000
	}
	c.JoinRate.setDefault(Rate{PerSecond: 20, Burst: 200})
	c.JoinRateAll.setDefault(Rate{PerSecond: 200, Burst: 1000})
	c.SignalRate.setDefault(Rate{PerSecond: 50, Burst: 500})
	c.UpdateRate.setDefault(Rate{PerSecond: 1, Burst: 30})
}

func (r *Rate) setDefault(d Rate) {
	if r.PerSecond <= 0 || r.Burst <= 0 {
		*r = d
	}
}

// Validate reports the first thing that is wrong, by the name of its flag.
// Empty fields that have a default are right.
func (c Config) Validate() error {
	if c.StateDir == "" {
		return errors.New("--state-dir is empty: name the directory that keeps the service's database and certificate")
	}
	if err := sockerr.Check("--listen", c.Listen); err != nil {
		return err
	}
	if c.STUNListen != stunOff {
		if err := sockerr.Check("--stun-listen", c.STUNListen); err != nil {
			return err
		}
	}
	if ip := c.RelayAddress; ip.IsValid() && (ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "") {
		return fmt.Errorf("--relay-address %s: nobody can send to it: give the address devices reach this service by", ip)
	}
	if c.PublicURL != "" {
		if _, err := controlapi.ParseServiceURL(c.PublicURL); err != nil {
			return fmt.Errorf("--public-url: %w", err)
		}
	}
	if err := checkDatabaseURL(c.DatabaseURL); err != nil {
		return err
	}
	if c.NetworkCIDR != (netip.Prefix{}) {
		if err := checkCIDR(c.NetworkCIDR); err != nil {
			return err
		}
	}
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		return errors.New("--tls-cert without --tls-key: give both, or neither for a self-made certificate")
	case c.TLSCert == "" && c.TLSKey != "":
		return errors.New("--tls-key without --tls-cert: give both, or neither for a self-made certificate")
	}
	return nil
}

func checkDatabaseURL(s string) error {
	if s == "" {
		return nil
	}
	scheme, _, found := strings.Cut(s, "://")
	switch {
	case found && (scheme == "postgres" || scheme == "postgresql"):
		return errors.New("--database-url: this version keeps its data in SQLite only: leave the flag out to use STATE/control.db")
	case found && scheme == "sqlite":
		if u, err := url.Parse(s); err != nil || u.Path == "" || u.Path == "/" || u.Host != "" || u.RawQuery != "" {
			return errors.New("--database-url: want sqlite:///PATH/TO/FILE, or leave the flag out to use STATE/control.db")
		}
		return nil
	}
	// What was written may hold a password: it is not repeated.
	return errors.New("--database-url: unknown kind of database: leave the flag out to use SQLite in the state directory")
}

func checkCIDR(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4():
		return fmt.Errorf("--network-cidr %s: want an IPv4 range such as %s", p, DefaultCIDR)
	case p != p.Masked():
		return fmt.Errorf("--network-cidr %s has bits behind the prefix: write %s", p, p.Masked())
	case p.Bits() < 8 || p.Bits() > 29:
		return fmt.Errorf("--network-cidr %s: want a prefix length from /8 to /29", p)
	case p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsUnspecified() || p.Addr().IsLinkLocalUnicast() || p.Addr().As4()[0] >= 240:
		return fmt.Errorf("--network-cidr %s: the range is reserved for other uses: take a private one such as %s", p, DefaultCIDR)
	}
	return nil
}

// stunOff is the value of --stun-listen that starts no STUN server.
const stunOff = "off"
