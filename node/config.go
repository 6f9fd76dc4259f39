package node

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"nexd/controlapi"
	"nexd/rules"
)

// DefaultDrainTimeout is how long connections may go on after the node was told to stop.
const DefaultDrainTimeout = 10 * time.Second

// Config is everything an unprivileged node can be told. The zero value of a
// field is its default; [Config.Validate] says which field is wrong.
type Config struct {
	// ServiceURL is the control service; empty: that of the registration key,
	// or the one joined before.
	ServiceURL string
	// RegKey is a registration key in its text form. It is needed once.
	RegKey string

	// StateDir holds the node's state. Ignored when Ephemeral is set.
	StateDir string
	// Ephemeral keeps nothing on disk, and the device leaves the mesh when it stops.
	Ephemeral bool
	// UnixSocket is where nexctl finds the daemon; empty: nowhere.
	UnixSocket string

	// Hostname is the wanted device name; empty: made from the machine's host name.
	Hostname string
	// OnNameTaken is controlapi.NameRefuse or controlapi.NameNumber; empty:
	// refuse when Hostname is set, number otherwise.
	OnNameTaken string
	// RequestIP is the wanted mesh IPv4 address; invalid: any.
	RequestIP netip.Addr

	// ListenPort is the UDP port; 0: random at first, remembered from then on.
	ListenPort uint16
	// Endpoint is a HOST:PORT this node can be reached at from outside.
	Endpoint string
	// LocalEndpointIP is offered to peers in place of the addresses of the interfaces.
	LocalEndpointIP netip.Addr
	// PortMapping asks the gateway for a port of its own (PCP, NAT-PMP, UPnP).
	PortMapping bool
	// PunchHardNAT spends checks on guessing the ports of NATs that choose a new
	// one for each destination, where the peer does so, too.
	PunchHardNAT bool
	// STUNServers are HOST:PORT; empty: those the service names.
	STUNServers []string
	// MTU is the largest packet in the tunnel in bytes, to every peer; 0: what the
	// path to each peer proves to carry, from 1280 on.
	MTU int

	// CAFile holds further authorities for the service's certificate (PEM).
	CAFile string
	// InsecureSkipTLSVerify accepts any certificate of the service.
	InsecureSkipTLSVerify bool

	// Rules are declared by flags, environment and config file.
	Rules []rules.Spec
	// DrainTimeout bounds how long connections go on after the end was asked
	// for or their rule was removed; 0: the default, negative: not at all.
	DrainTimeout time.Duration
	// OpsListen is the address of /healthz, /readyz and /metrics; empty: none.
	OpsListen string

	// Log takes every line the node writes; LogLevel is what nexctl changes.
	Log      *slog.Logger
	LogLevel *slog.LevelVar
}

// Validate returns an error that names the wrong field as its flag.
func (c *Config) Validate() error {
	if c.ServiceURL != "" {
		if _, err := controlapi.ParseServiceURL(c.ServiceURL); err != nil {
			return fmt.Errorf("--service-url: %w", err)
		}
	}
	if c.RegKey != "" {
		if _, err := controlapi.ParseRegKey(c.RegKey); err != nil {
			return fmt.Errorf("--reg-key: %w", err)
		}
	}
	if c.Hostname != "" {
		if err := controlapi.CheckName(c.Hostname); err != nil {
			return fmt.Errorf("--hostname: %w", err)
		}
	}
	switch c.OnNameTaken {
	case "", controlapi.NameRefuse, controlapi.NameNumber:
	default:
		return fmt.Errorf("--on-name-taken %q: want %s or %s", c.OnNameTaken, controlapi.NameRefuse, controlapi.NameNumber)
	}
	if c.RequestIP.IsValid() && !c.RequestIP.Is4() {
		return fmt.Errorf("--request-ip %s: want an IPv4 address of the mesh", c.RequestIP)
	}
	if c.Endpoint != "" {
		if err := checkHostPort(c.Endpoint); err != nil {
			return fmt.Errorf("--endpoint %w", err)
		}
	}
	for _, s := range c.STUNServers {
		if err := checkHostPort(s); err != nil {
			return fmt.Errorf("--stun-server %w", err)
		}
	}
	if c.MTU != 0 && (c.MTU < 1280 || c.MTU > 65535) {
		return fmt.Errorf("--mtu %d: want 1280 to 65535", c.MTU)
	}
	if !c.Ephemeral && c.StateDir == "" {
		return fmt.Errorf("--state-dir is not set and cannot be guessed: give one, or --ephemeral")
	}
	if c.OpsListen != "" {
		if _, _, err := net.SplitHostPort(c.OpsListen); err != nil {
			return fmt.Errorf("--ops-listen %q: want ADDRESS:PORT", c.OpsListen)
		}
	}
	return nil
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil && host != "" {
		if n, perr := strconv.ParseUint(port, 10, 16); perr == nil && n > 0 {
			return nil
		}
	}
	return fmt.Errorf("%q: want HOST:PORT", s)
}
