package cli

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nexd/internal/buildinfo"
	"nexd/internal/logkey"
	"nexd/relayd"
)

// relaySettings are the settings of nexd relay.
type relaySettings struct {
	*settings
	relay   relayd.Config
	log     logSettings
	config  string
	keyGone error // the registration key's file is not there
}

func newRelaySettings(env func(string) string) *relaySettings {
	p := &relaySettings{settings: newSettings(env)}
	s, c := p.settings, &p.relay
	option(s, &c.ServiceURL, "service-url", "URL", "control service; default: the one in the registration key", parseText)
	s.hidden(&c.RegKey, "reg-key", "KEY", "registration key for relays; needed once, then the relay has its own credential", "the registration key")
	option(s, &c.StateDir, "state-dir", "DIR", "where the relay keeps its key and what the service told it; default: /var/lib/nexd for root, else ~/.local/state/nexd", parseText)
	option(s, &c.Name, "name", "NAME", "name of the relay; default: made from the host's", parseText)
	option(s, &c.RelayListen, "relay-listen", "ADDR:PORT", "UDP: relay and STUN", parseText).Default(relayd.DefaultRelayListen)
	option(s, &c.Listen, "listen", "ADDR:PORT", "HTTPS: relay over WebSocket; off for none", parseText).Default(relayd.DefaultListen)
	options(s, &c.PublicAddresses, "public-address", "HOST", "IP or name devices reach the relay by (repeatable); default: that of --relay-listen or --listen, if one names it", parseText)
	option(s, &c.TLSCert, "tls-cert", "FILE", "certificate chain, PEM; default: a self-made one, whose pin devices are told", parseText)
	option(s, &c.TLSKey, "tls-key", "FILE", "private key of --tls-cert, PEM", parseText)
	option(s, &c.CAFile, "ca-file", "FILE", "further authorities for the service's certificate, PEM", parseText)
	s.toggle(&c.InsecureSkipTLSVerify, "insecure-skip-tls-verify", "accept any certificate of the service")
	option(s, &c.MaxSessions, "max-sessions", "COUNT", "how many devices may be connected", parsePositive).Default("20000")
	option(s, &c.DeviceRate, "device-rate", "BYTES", "how much one device may send in a second, such as 12M", parseSize).Default("1G")
	option(s, &c.OpsListen, "ops-listen", "ADDR:PORT", "serve /healthz, /readyz and /metrics there; default: nowhere", parseText)
	option(s, &c.DrainTimeout, "drain-timeout", "TIME", "how long devices may take to leave after SIGTERM", parseDuration).Default(relayd.DefaultDrainTimeout.String())
	option(s, &p.config, "config", "FILE", "YAML file of settings; SIGHUP reads its log level again", parseText)
	p.log.declare(s)
	s.spareFile("reg-key-file", &p.keyGone)
	return p
}

func (p *relaySettings) base() *settings    { return p.settings }
func (p *relaySettings) logs() *logSettings { return &p.log }

// load resolves everything.
func (p *relaySettings) load(where places) error {
	if err := p.loadFile(); err != nil {
		return err
	}
	if p.relay.StateDir == "" {
		p.relay.StateDir = where.stateDir()
		p.byName["state-dir"].fill(p.relay.StateDir)
	}
	if p.keyGone != nil && !relayd.Registered(p.relay.StateDir) {
		return p.byName["reg-key-file"].wrong(p.keyGone)
	}
	if p.relay.DrainTimeout == 0 {
		p.relay.DrainTimeout = -1 // none at all
	}
	if err := p.relay.Validate(); err != nil {
		return p.located(err)
	}
	return nil
}

func parsePositive(s string) (int, error) {
	n, err := parseCount(s)
	if err == nil && n == 0 {
		err = errors.New("want 1 or more")
	}
	return n, err
}

// parseSize reads a number of bytes: K, M and G stand for powers of 1000, KiB,
// MiB and GiB for powers of 1024.
func parseSize(s string) (int64, error) {
	text, unit := s, int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			text, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit {
		return 0, errors.New("want a number of bytes such as 500000, 12M or 1GiB")
	}
	return n * unit, nil
}

func (a *app) relayCommand() *cobra.Command {
	p := newRelaySettings(a.env)
	c := &cobra.Command{
		Use:   "relay",
		Short: "Run a stand-alone relay, with STUN, for the devices of a service",
		Long: `Run a relay that carries sealed packets between devices that cannot reach each
other, and answers STUN on the same port. It registers with the control service
once, with a key made by nexctl reg-key create --relay; devices are then told of
it, and use the nearest relay. It needs no privilege, cannot read what it carries,
and carries it only between members of one network.

It goes on while the service is down, and starts without it. --public-address is
what devices are told; give it unless the relay listens on an address that says
it. Its UDP port and its HTTPS port have to be reachable from outside.

Signals: SIGTERM and SIGINT ask devices to use another relay, and end it when they
have left or the drain timeout is over; a second one ends it at once (exit code
1). SIGHUP reads --config again for the log level; what else changed is named in
the log and needs a restart.`,
		Example: `  nexd relay --reg-key-file key.txt --public-address relay.example.com
  nexd relay --public-address 192.0.2.7 --public-address 2001:db8::7 --ops-listen 127.0.0.1:9100
  nexd relay --relay-listen 127.0.0.1:3479 --listen off --state-dir ./relay --reg-key-file key.txt`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.load(a.places()); err != nil {
				return err
			}
			return a.runRelay(cmd.Context(), p)
		},
	}
	p.register(c.Flags())
	return c
}

// runRelay is the life of nexd relay.
func (a *app) runRelay(ctx context.Context, p *relaySettings) error {
	log, level := p.log.open(a.Err)
	p.relay.Log, p.relay.Version = log, buildinfo.Version()
	if p.keyGone != nil {
		log.Warn("the registration key is gone: going on as the relay that registered before", logkey.Err, p.keyGone)
	}
	relay, err := relayd.New(p.relay)
	if err != nil {
		return explainRelay(err)
	}
	r := &relevel[*relaySettings]{app: a, current: p, fresh: newRelaySettings, log: log, level: level}
	return explainRelay(daemonize(ctx, log, relay.Run, r.reload))
}

// explainRelay gives package relayd's wrong requests their exit code.
func explainRelay(err error) error {
	var usage *relayd.UsageError
	if errors.As(err, &usage) {
		return wrong(usage.Hint, "%s", usage.Message)
	}
	return err
}
