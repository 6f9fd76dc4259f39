package relay

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"nexd/key"
)

// ServerConfig is what a [Server] needs.
type ServerConfig struct {
	// Private is the relay's own key; clients know the public half.
	Private key.Private
	// Issuers are the public keys of the services whose credentials count, at most 8.
	Issuers []ed25519.PublicKey
	// Other is given each datagram of the UDP sockets that is no frame: STUN.
	// It is called from several goroutines, must not block, and must copy. Nil:
	// they are dropped.
	Other func(socket *Socket, packet []byte, from netip.AddrPort)
	// Limits; zero fields take their defaults.
	Limits Limits
	// Log may be nil.
	Log *slog.Logger

	clock func() time.Time // for tests
}

// Limits bound what sessions may cost.
type Limits struct {
	Sessions        int // in all; 20000
	NetworkSessions int // of one network; 10000
	Pending         int // WebSocket connections not admitted yet; 1024

	// Bytes per second, headers included, and how much may come at once.
	// Rates: a negative one is no limit; device 1 GB, network none. Bursts: a
	// quarter of a second's worth, at least 1 MiB.
	DeviceRate, DeviceBurst   int64
	NetworkRate, NetworkBurst int64
	// Packets per second of one device; 1,000,000. Negative: no limit.
	DevicePackets int64

	// Queue is how many bytes wait for one WebSocket client; 256 KiB. Of a client that
	// takes them fast, what it takes in 50 ms, up to four times as many. A short frame
	// counts for 256 bytes. What comes over that drops the oldest packet of the sender
	// that has most waiting.
	Queue int
	// Idle ends a session that was not heard of for so long; 60 s.
	Idle time.Duration
	// WriteTimeout closes a WebSocket connection that takes nothing for so long; 30 s.
	WriteTimeout time.Duration
	// AdmissionTimeout closes a WebSocket connection that is not admitted; 10 s.
	AdmissionTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	orElse(&l.Sessions, 20_000)
	orElse(&l.NetworkSessions, 10_000)
	orElse(&l.Pending, 1024)
	orElse(&l.DeviceRate, 1e9)
	orElse(&l.NetworkRate, -1)
	orElse(&l.DeviceBurst, max(l.DeviceRate/4, 1<<20))
	orElse(&l.NetworkBurst, max(l.NetworkRate/4, 1<<20))
	orElse(&l.DevicePackets, 1e6)
	orElse(&l.Queue, 256<<10)
	orElse(&l.Idle, 60*time.Second)
	orElse(&l.WriteTimeout, 30*time.Second)
	orElse(&l.AdmissionTimeout, 10*time.Second)
	return l
}

func orElse[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// validate names what is wrong.
func (c ServerConfig) validate() error {
	switch {
	case c.Private.IsZero():
		return errors.New("relay: Private is not set")
	case len(c.Issuers) == 0:
		return errors.New("relay: no Issuers: nobody could be admitted")
	case c.Limits.Queue < 0 || c.Limits.Queue > 0 && c.Limits.Queue < 2*MaxFrame:
		return fmt.Errorf("relay: Limits.Queue of %d bytes: at least %d", c.Limits.Queue, 2*MaxFrame)
	}
	return checkIssuers(c.Issuers)
}

func checkIssuers(list []ed25519.PublicKey) error {
	if len(list) > 8 {
		return fmt.Errorf("relay: %d Issuers: at most 8", len(list))
	}
	for _, k := range list {
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("relay: an issuer of %d bytes: want %d", len(k), ed25519.PublicKeySize)
		}
	}
	return nil
}
