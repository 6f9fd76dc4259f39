package relayd

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"nexd/controlapi"
	"nexd/internal/sockerr"
)

// Off is the value of Config.Listen that takes no WebSocket clients.
const Off = "off"

// Defaults of a [Config].
const (
	DefaultRelayListen  = ":3478"
	DefaultListen       = ":8443"
	DefaultDrainTimeout = 10 * time.Second
)

// Config is everything a relay can be told. The zero value of a field is its
// default; [Config.Validate] says which field is wrong.
type Config struct {
	// ServiceURL is the control service; empty: that of the registration key, or
	// the one registered with before.
	ServiceURL string
	// RegKey is a registration key whose role is relay, in its text form. It is
	// needed once.
	RegKey string
	// StateDir holds the relay's key, its certificate, and what the service told it.
	StateDir string
	// Name is unique among the service's relays; empty: made from the machine's
	// host name. It counts when the relay registers.
	Name string

	// RelayListen is the UDP address of relay and STUN, host:port.
	RelayListen string
	// Listen is the HTTPS address of the relay over WebSocket, host:port; Off: none.
	Listen string
	// PublicAddresses are the hosts devices reach the relay at: IP addresses or
	// DNS names, the one for WebSocket first. Empty: that of RelayListen or
	// Listen, where one names a host.
	PublicAddresses []string

	// TLSCert and TLSKey are PEM files in place of the self-made certificate,
	// which devices know by its pin. They are read again when they change.
	TLSCert, TLSKey string
	// CAFile holds further authorities for the service's certificate (PEM).
	CAFile string
	// InsecureSkipTLSVerify accepts any certificate of the service.
	InsecureSkipTLSVerify bool

	// MaxSessions is how many devices may be connected; 0: 20000.
	MaxSessions int
	// DeviceRate is how many bytes a second one device may send; 0: 1 GB.
	DeviceRate int64
	// DrainTimeout bounds how long devices may take to leave at the end; 0: the
	// default, negative: not at all.
	DrainTimeout time.Duration
	// OpsListen is the address of /healthz, /readyz and /metrics; empty: none.
	OpsListen string

	// Version is told to the service.
	Version string
	// Log may be nil.
	Log *slog.Logger

	heartbeat time.Duration // for tests; 0: controlapi.RelayHeartbeatInterval
}

// UsageError is a wrong request or configuration: the same start would fail again.
type UsageError struct {
	Message string
	Hint    string // what to do; may be empty
}

func (e *UsageError) Error() string { return e.Message }

// Validate reports the first thing that is wrong, by the name of its flag.
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
	if c.StateDir == "" {
		return errors.New("--state-dir is not set and cannot be guessed: name the directory that keeps the relay's key")
	}
	if c.Name != "" && controlapi.CheckName(c.Name) != nil {
		return fmt.Errorf("--name %q: want lower-case letters, digits and inner hyphens, at most 63", c.Name)
	}
	if err := sockerr.Check("--relay-listen", c.RelayListen); err != nil {
		return err
	}
	if c.Listen != Off {
		if err := sockerr.Check("--listen", c.Listen); err != nil {
			return err
		}
	}
	if err := c.checkPublic(); err != nil {
		return err
	}
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		return errors.New("--tls-cert without --tls-key: give both, or neither for a self-made certificate")
	case c.TLSCert == "" && c.TLSKey != "":
		return errors.New("--tls-key without --tls-cert: give both, or neither for a self-made certificate")
	case c.TLSCert != "" && c.Listen == Off:
		return errors.New("--tls-cert with --listen off: there is nothing that would show it")
	case c.MaxSessions < 0:
		return fmt.Errorf("--max-sessions %d: want 1 or more", c.MaxSessions)
	case c.DeviceRate < 0:
		return fmt.Errorf("--device-rate %d: want 1 or more bytes per second", c.DeviceRate)
	}
	return sockerr.Check("--ops-listen", c.OpsListen)
}

// setDefaults fills in what was left empty.
func (c *Config) setDefaults() {
	if c.RelayListen == "" {
		c.RelayListen = DefaultRelayListen
	}
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.heartbeat <= 0 {
		c.heartbeat = controlapi.RelayHeartbeatInterval
	}
}
