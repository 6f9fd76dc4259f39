package netstack

import (
	"fmt"
	"log/slog"
)

const (
	// DefaultMTU fits an Ethernet path of 1500 bytes under WireGuard over IPv6
	// (40 bytes IPv6, 8 UDP, 16 header, 16 tag), and so over IPv4 (60) too. It
	// is what other WireGuard programs choose.
	DefaultMTU = 1420
	// MinMTU is the least an IPv6 link may have (RFC 8200 section 5).
	MinMTU = 1280
	// MaxMTU is the largest IP packet.
	MaxMTU = 65535

	// BatchSize is how many packets one Read or Write of the device moves at most.
	BatchSize = 128
)

// Config says how a stack is made. The zero value is usable.
type Config struct {
	// MTU is the largest packet, IP header included, that the stack sends into
	// the tunnel: MinMTU to MaxMTU. The largest TCP segment follows from it. When it
	// is set it holds for all destinations; 0 means DefaultMTU for those of which
	// SetPathMTU has said nothing. Packets of any size are received.
	MTU int
	// Log receives what is worth telling; nil for none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if c.MTU < MinMTU || c.MTU > MaxMTU {
		return fmt.Errorf("MTU %d is outside %d to %d: use --mtu %d", c.MTU, MinMTU, MaxMTU, DefaultMTU)
	}
	return nil
}
