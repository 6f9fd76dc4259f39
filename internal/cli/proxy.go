package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/node"
	"nexd/rules"
	"nexd/state"
)

// proxySettings are the settings of nexd proxy and what they were resolved to.
type proxySettings struct {
	*settings
	node            node.Config
	ingress, egress []rules.Spec
	log             logSettings
	config          string
	check           bool
	output          string
	keyGone         error // the registration key's file is not there
}

// newProxySettings declares them in the order of --help.
func newProxySettings(env func(string) string) *proxySettings {
	p := &proxySettings{settings: newSettings(env)}
	s, c := p.settings, &p.node
	options(s, &p.ingress, "ingress", "RULE", "offer a local port to the mesh: PROTO:PORT:HOST:PORT (repeatable)", parseRule(rules.Ingress))
	options(s, &p.egress, "egress", "RULE", "bring a port of the mesh to this host: PROTO:PORT:HOST:PORT (repeatable)", parseRule(rules.Egress))
	declareNode(s, c)
	s.spareFile("reg-key-file", &p.keyGone)
	option(s, &p.config, "config", "FILE", "YAML file of settings; SIGHUP reads it again", parseText)
	p.log.declare(s)
	s.toggle(&p.check, "check", "try every rule once, print the effective configuration, and end").env = ""
	return p
}

// checkKeyFile refuses a missing key file where there is no state to go on with.
func (p *proxySettings) checkKeyFile() error {
	if p.keyGone == nil || (!p.node.Ephemeral && state.Exists(p.node.StateDir)) {
		return nil
	}
	return p.byName["reg-key-file"].wrong(p.keyGone)
}

// declareNode declares what every kind of node can be told.
func declareNode(s *settings, c *node.Config) {
	option(s, &c.ServiceURL, "service-url", "URL", "control service; default: the one in the registration key", parseText)
	s.hidden(&c.RegKey, "reg-key", "KEY", "registration key; needed once, then the device has its own credential", "the registration key")
	option(s, &c.StateDir, "state-dir", "DIR", "where the device keeps its key, address and rules; default: /var/lib/nexd for root, else ~/.local/state/nexd", parseText)
	s.toggle(&c.Ephemeral, "ephemeral", "keep nothing on disk; the device leaves the mesh when it stops")
	option(s, &c.UnixSocket, "unix-socket", "PATH", "where nexctl finds this daemon; default: /run/nexd/nexd.sock for root, else in XDG_RUNTIME_DIR or the state directory", parseText)
	option(s, &c.Hostname, "hostname", "NAME", "name of the device; default: made from the host's", parseText)
	option(s, &c.OnNameTaken, "on-name-taken", "WHAT", "when another device has the name: refuse, or number (NAME-2); default: refuse a --hostname, number the host's", oneOf(controlapi.NameRefuse, controlapi.NameNumber))
	option(s, &c.RequestIP, "request-ip", "IP", "wanted IPv4 address in the mesh", parseAddr).env = "NEXD_REQUESTED_IP"
	option(s, &c.ListenPort, "listen-port", "PORT", "UDP port of the tunnel; 0: a random one, remembered", parsePort)
	option(s, &c.Endpoint, "endpoint", "HOST:PORT", "where peers reach the tunnel from outside", parseText)
	option(s, &c.LocalEndpointIP, "local-endpoint-ip", "IP", "offer this address to peers in place of those of the interfaces", parseAddr)
	options(s, &c.STUNServers, "stun-server", "HOST:PORT", "server that tells our public address (repeatable); default: the service's and its relays", parseText)
	s.toggle(&c.PortMapping, "port-mapping", "ask the router for a port by PCP, NAT-PMP or UPnP: it then lets the internet in to this one port")
	s.toggle(&c.PunchHardNAT, "punch-hard-nat", "guess the ports of NATs that choose a new one each time, with peers that do so, too: hundreds of packets and sockets for some seconds")
	option(s, &c.MTU, "mtu", "BYTES", "largest packet in the tunnel, from 1280, to every peer; unless set, what the path to each proves to carry", parseCount)
	option(s, &c.CAFile, "ca-file", "FILE", "further authorities for the service's certificate, PEM", parseText)
	s.toggle(&c.InsecureSkipTLSVerify, "insecure-skip-tls-verify", "accept any certificate of the service")
	option(s, &c.DrainTimeout, "drain-timeout", "TIME", "how long connections may finish after SIGTERM", parseDuration).Default(node.DefaultDrainTimeout.String())
	option(s, &c.OpsListen, "ops-listen", "ADDR:PORT", "serve /healthz, /readyz and /metrics there; default: nowhere", parseText)
}

// load resolves everything: command line, environment, config file, defaults.
func (p *proxySettings) load(where places) error {
	if err := p.loadFile(); err != nil {
		return err
	}
	p.place(where)
	if err := p.checkKeyFile(); err != nil {
		return err
	}
	p.node.Rules = slices.Concat(p.ingress, p.egress)
	if _, err := rules.NewSet(p.node.Rules...); err != nil {
		return err
	}
	if p.node.DrainTimeout == 0 {
		p.node.DrainTimeout = -1 // none at all
	}
	if err := p.node.Validate(); err != nil {
		return p.located(err)
	}
	return nil
}

// configPath is known before the file is read.
func (s *settings) configPath() (string, error) {
	st := s.byName["config"]
	st.find(s.env, nil)
	if st.source == "default" {
		return "", nil
	}
	path, err := parseText(st.raws[len(st.raws)-1])
	if err != nil {
		return "", st.wrong(err)
	}
	return path, nil
}

// place fills in the files that were not named.
func (p *proxySettings) place(where places) {
	c := &p.node
	stateDir := p.byName["state-dir"]
	if c.StateDir == "" && !c.Ephemeral {
		c.StateDir = where.stateDir()
		stateDir.fill(c.StateDir)
	}
	if c.UnixSocket == "" {
		c.UnixSocket = where.daemonSocket(c.StateDir)
		p.byName["unix-socket"].fill(c.UnixSocket)
	}
}

// fill records a default that was worked out.
func (st *setting) fill(v string) {
	if v != "" {
		st.def, st.raws = v, []string{v}
	}
}

func (a *app) proxyCommand() *cobra.Command {
	p := newProxySettings(a.env)
	c := &cobra.Command{
		Use:   "proxy",
		Short: "Join the mesh and carry ports between it and this host, without privileges",
		Long: `Join the mesh and carry ports between it and this host. Nothing needs a
privilege: WireGuard and TCP/IP run inside this process.

A rule is PROTO:[BIND:]PORT:HOST:PORT[,OPTION=VALUE]... --ingress listens on PORT
at this device's mesh address and dials HOST:PORT from here; --egress listens on
PORT on this host (loopback unless BIND says otherwise) and dials HOST:PORT over
the mesh. Only declared rules exist; nexctl nexd proxy add and remove change them
while the daemon runs. In NEXD_INGRESS and NEXD_EGRESS rules are separated by
spaces.

Signals: SIGTERM and SIGINT let connections finish until the drain timeout, a
second one ends at once (exit code 1). SIGHUP reads --config again: rules that did
not change keep their connections, a file with an error changes nothing.`,
		Example: `  nexd proxy --reg-key-file key.txt --ingress tcp:443:127.0.0.1:8080
  nexd proxy --egress tcp:5432:100.64.0.2:5432
  nexd proxy --egress tcp:5432:db:5432,idle-timeout=1h --check
  NEXD_INGRESS="tcp:80:127.0.0.1:8080 udp:53:127.0.0.1:53" nexd proxy`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.load(a.places()); err != nil {
				return err
			}
			if p.check {
				return a.checkProxy(cmd.Context(), p)
			}
			return a.runProxy(cmd.Context(), p)
		},
	}
	p.register(c.Flags())
	outputFlag(c, &p.output)
	c.Flags().Lookup("output").Usage = "form of --check: table, json, yaml or no-header"
	return c
}

// runProxy is the life of nexd proxy.
func (a *app) runProxy(ctx context.Context, p *proxySettings) error {
	p.node.Log, p.node.LogLevel = p.log.open(a.Err)
	if p.node.UnixSocket == "" {
		p.node.Log.Warn("no place for the daemon's socket: nexctl cannot reach it (give --unix-socket)")
	}
	n, err := node.New(p.node)
	if errors.Is(err, node.ErrNotJoined) && p.keyGone != nil {
		return p.byName["reg-key-file"].wrong(p.keyGone)
	}
	if err != nil {
		return err
	}
	if p.keyGone != nil {
		p.node.Log.Warn("the registration key is gone: going on as the device that joined before", logkey.Err, p.keyGone)
	}
	r := &reloader{app: a, current: p, node: n, log: p.node.Log, level: p.node.LogLevel}
	return daemonize(ctx, p.node.Log, n.Run, r.reload)
}
