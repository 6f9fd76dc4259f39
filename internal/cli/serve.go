package cli

import (
	"context"

	"github.com/spf13/cobra"

	"nexd/control"
	"nexd/internal/buildinfo"
)

// serveSettings are the settings of nexd serve.
type serveSettings struct {
	*settings
	control control.Config
	log     logSettings
	config  string
}

func newServeSettings(env func(string) string) *serveSettings {
	p := &serveSettings{settings: newSettings(env)}
	s, c := p.settings, &p.control
	option(s, &c.Listen, "listen", "ADDR:PORT", "HTTPS: the API, and the relay over WebSocket", parseText).Default(":8443")
	option(s, &c.STUNListen, "stun-listen", "ADDR:PORT", "UDP: STUN and the relay; off for none", parseText).Default(":3478")
	option(s, &c.PublicURL, "public-url", "URL", "how devices reach the service: https://HOST:PORT; registration keys carry it; default: worked out from --listen", parseText)
	option(s, &c.RelayAddress, "relay-address", "IP", "where devices send relayed UDP; default: the host they know the service by", parseAddr)
	option(s, &c.StateDir, "state-dir", "DIR", "where database, certificate and admin.json are kept; default: /var/lib/nexd for root, else ~/.local/state/nexd", parseText)
	s.hidden(&c.DatabaseURL, "database-url", "URL", "database; default: SQLite in the state directory", "the database's URL")
	option(s, &c.NetworkCIDR, "network-cidr", "CIDR", "IPv4 range of the mesh", parsePrefix).Default(control.DefaultCIDR.String())
	option(s, &c.TLSCert, "tls-cert", "FILE", "certificate chain, PEM; default: a self-made one, pinned by every registration key", parseText)
	option(s, &c.TLSKey, "tls-key", "FILE", "private key of --tls-cert, PEM", parseText)
	option(s, &p.config, "config", "FILE", "YAML file of settings; SIGHUP reads its log level again", parseText)
	p.log.declare(s)
	return p
}

func (p *serveSettings) base() *settings    { return p.settings }
func (p *serveSettings) logs() *logSettings { return &p.log }

// load resolves everything.
func (p *serveSettings) load(where places) error {
	if err := p.loadFile(); err != nil {
		return err
	}
	if p.control.StateDir == "" {
		p.control.StateDir = where.stateDir()
		p.byName["state-dir"].fill(p.control.StateDir)
	}
	if err := p.control.Validate(); err != nil {
		return p.located(err)
	}
	return nil
}

func (a *app) serveCommand() *cobra.Command {
	p := newServeSettings(a.env)
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control service: registration, rendezvous, STUN and a relay",
		Long: `Run the control service that devices join and learn of each other through. It
needs no privilege and keeps everything in its state directory. Traffic between
devices goes from one to the other; what cannot, through a relay, sealed. The
service has one in it: UDP on --stun-listen, and WebSocket on --listen for those
whose UDP is blocked. Others may stand elsewhere (nexd relay). Direct traffic
goes on while the service is down.

At its first start it writes admin.json (mode 0600) into the state directory;
nexctl finds the service through it.

Signals: SIGTERM and SIGINT end it in good order, a second one at once (exit
code 1). SIGHUP reads --config again for the log level; what else changed is
named in the log and needs a restart.`,
		Example: `  nexd serve
  nexd serve --state-dir ./service --listen 127.0.0.1:8443 --public-url https://127.0.0.1:8443
  nexd serve --tls-cert chain.pem --tls-key key.pem --public-url https://mesh.example.com:8443`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.load(a.places()); err != nil {
				return err
			}
			return a.runServe(cmd.Context(), p)
		},
	}
	p.register(c.Flags())
	return c
}

// runServe is the life of nexd serve.
func (a *app) runServe(ctx context.Context, p *serveSettings) error {
	log, level := p.log.open(a.Err)
	p.control.Log = log
	p.control.Version = buildinfo.Version()
	service, err := control.New(p.control)
	if err != nil {
		return err
	}
	r := &relevel[*serveSettings]{app: a, current: p, fresh: newServeSettings, log: log, level: level}
	return daemonize(ctx, log, service.Run, r.reload)
}
