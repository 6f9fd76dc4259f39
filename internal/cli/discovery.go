package cli

import (
	"context"

	"github.com/spf13/cobra"

	"nexd/relayd"
)

// discoverySettings are the settings of nexd discovery.
type discoverySettings struct {
	*settings
	stun   relayd.STUNConfig
	log    logSettings
	config string
}

func newDiscoverySettings(env func(string) string) *discoverySettings {
	p := &discoverySettings{settings: newSettings(env)}
	s, c := p.settings, &p.stun
	options(s, &c.Listen, "stun-listen", "ADDR:PORT", "UDP: STUN (repeatable)", parseText).Default(relayd.DefaultRelayListen)
	option(s, &c.OpsListen, "ops-listen", "ADDR:PORT", "serve /healthz, /readyz and /metrics there; default: nowhere", parseText)
	option(s, &p.config, "config", "FILE", "YAML file of settings; SIGHUP reads its log level again", parseText)
	p.log.declare(s)
	return p
}

func (p *discoverySettings) base() *settings    { return p.settings }
func (p *discoverySettings) logs() *logSettings { return &p.log }

// load resolves everything.
func (p *discoverySettings) load(places) error {
	if err := p.loadFile(); err != nil {
		return err
	}
	if err := p.stun.Validate(); err != nil {
		return p.located(err)
	}
	return nil
}

func (a *app) discoveryCommand() *cobra.Command {
	p := newDiscoverySettings(a.env)
	c := &cobra.Command{
		Use:   "discovery",
		Short: "Run a stand-alone STUN server",
		Long: `Run a server that answers STUN binding requests: it tells whoever asks the address
the question came from, and keeps nothing. Devices ask it to find out how they
look from outside (--stun-server of nexd proxy). It registers with no service and
needs no privilege. With two ports, or two addresses, devices behind a NAT see
whether it treats them differently by whom they ask.

Signals: SIGTERM and SIGINT end it. SIGHUP reads --config again for the log level;
what else changed is named in the log and needs a restart.`,
		Example: `  nexd discovery
  nexd discovery --stun-listen 192.0.2.7:3478 --stun-listen 192.0.2.8:3479 --ops-listen 127.0.0.1:9100`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.load(a.places()); err != nil {
				return err
			}
			return a.runDiscovery(cmd.Context(), p)
		},
	}
	p.register(c.Flags())
	return c
}

// runDiscovery is the life of nexd discovery.
func (a *app) runDiscovery(ctx context.Context, p *discoverySettings) error {
	log, level := p.log.open(a.Err)
	p.stun.Log = log
	server, err := relayd.NewSTUN(p.stun)
	if err != nil {
		return explainRelay(err)
	}
	r := &relevel[*discoverySettings]{app: a, current: p, fresh: newDiscoverySettings, log: log, level: level}
	return daemonize(ctx, log, server.Run, r.reload)
}
