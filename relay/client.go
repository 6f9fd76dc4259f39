package relay

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"nexd/key"
)

// ClientConfig is what a [Client] needs.
type ClientConfig struct {
	// Private is the device's key; Relay the relay's.
	Private key.Private
	Relay   key.Public
	// UDP are the relay's UDP addresses as host:port, IPv4 and IPv6; the first
	// that answers is used. WriteUDP sends datagrams on the node's socket; it
	// must not keep them. Without either, only WebSocket is used.
	UDP      []string
	WriteUDP func(packets [][]byte, to netip.AddrPort) error
	// URL is where the relay takes WebSocket clients, https:// or wss://. Empty: only UDP.
	URL string
	// TLS may be nil. It is cloned.
	TLS *tls.Config
	// Proxy chooses the HTTP proxy for URL; nil: [http.ProxyFromEnvironment].
	Proxy func(*http.Request) (*url.URL, error)
	// Dial makes TCP connections; nil: those of package net.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Credential returns the newest credential, or nothing while there is none.
	// It must not block; a new one is noticed at the next ping, or after [Client.Wake].
	Credential func() []byte
	// Deliver takes packets that came by WebSocket, those of a peer that came
	// one after the other in a message together; those that came by UDP are what
	// [Client.HandleUDP] returns. It is called by the connection's reader, which
	// waits for it, and must not keep them. nil: they are dropped.
	Deliver func(peer key.Public, packets [][]byte)
	// OnStatus is told of changes, OnPresence of peers that are not at the relay
	// or have come. Both are called by Run's goroutine and must not block. They may be nil.
	OnStatus   func(Status)
	OnPresence func(peer key.Public, what Presence)
	// Log may be nil.
	Log *slog.Logger

	onAddrs func([]netip.AddrPort) // told, before the first hello, where UDP answers will come from
}

// Transport is how a client reaches its relay.
type Transport uint8

// The zero value: not at all.
const (
	NoTransport Transport = iota
	UDP
	TLS
)

// String returns the word for status and logs.
func (t Transport) String() string {
	switch t {
	case NoTransport:
		return "none"
	case UDP:
		return "udp"
	case TLS:
		return "tls"
	}
	return fmt.Sprintf("transport(%d)", uint8(t))
}

// Status is how a client stands with its relay.
type Status struct {
	Transport Transport      // NoTransport: not connected
	Addr      netip.AddrPort // with UDP
	RTT       time.Duration  // 0: not measured
	Since     time.Time      // of the session, or of its loss
	Fresh     time.Time      // when its way last changed: what was sent just before may be lost
	Suspect   bool           // a ping is overdue while packets are sent: send them by another way too
	Draining  bool           // the relay asks to use another
	Err       error          // why it is not connected; a [*RefusedError] when the relay said so
}

// RefusedError is a relay's refusal to admit this device.
type RefusedError struct{ Reason Refusal }

// Error says what the relay said.
func (e *RefusedError) Error() string { return "relay refuses: " + e.Reason.String() }

// ErrNoCredential is the state of a client that was given none yet.
var ErrNoCredential = errors.New("no relay credential yet")

// ErrSilent is the state of a client whose relay does not answer.
var ErrSilent = errors.New("relay does not answer")

// ByeError is how a relay ended a session.
type ByeError struct{ Reason Farewell }

// Error says what the relay said.
func (e *ByeError) Error() string { return "relay ended the session: " + e.Reason.String() }

// Client keeps a session with one relay.
type Client struct {
	cfg    ClientConfig
	log    *slog.Logger
	secret *[32]byte
	tag    uint32
	http   *http.Client

	// For the data path.
	up       atomic.Pointer[upLink]
	udpAddrs atomic.Pointer[[]netip.AddrPort]
	heardUDP atomic.Int64 // UnixNano
	sent     atomic.Int64 // UnixNano of the last packet, by any transport
	peers    peerTable
	scratch  sync.Pool
	count    clientCounters

	inbox  chan clientFrame
	kick   chan struct{}
	dialed chan dialResult
	ran    atomic.Bool
	nonce  atomic.Uint64 // of the proof by UDP
	hurry  atomic.Bool   // with kick: not only packets were sent
	rtt    atomic.Int64  // nanoseconds

	mu     sync.Mutex // guards status
	status Status
}

// upLink is where packets go. It is replaced, never changed.
type upLink struct {
	generation uint64 // of the session: channels agreed in another one do not count
	tag        uint32
	channels   uint32
	addr       netip.AddrPort
	ws         *clientConn // nil: UDP
}

// clientFrame is a short frame for Run.
type clientFrame struct {
	frame [helloSize]byte
	n     int
	from  netip.AddrPort
	ws    *clientConn
}

// ClientStats counts packets since the client was made.
type ClientStats struct {
	SentPackets, SentBytes         uint64
	ReceivedPackets, ReceivedBytes uint64
	DroppedOffline                 uint64 // not connected
	DroppedQueue                   uint64 // a queue was full: its oldest
	DroppedSend                    uint64 // the socket refused them
	DroppedFrames                  uint64 // received and of no use: forged, malformed, or of no known channel
}

type clientCounters struct {
	sentPackets, sentBytes, receivedPackets, receivedBytes atomic.Uint64
	offline, queue, send, frames                           atomic.Uint64
}

// Stats may be called at any time.
func (c *Client) Stats() ClientStats {
	return ClientStats{
		SentPackets: c.count.sentPackets.Load(), SentBytes: c.count.sentBytes.Load(),
		ReceivedPackets: c.count.receivedPackets.Load(), ReceivedBytes: c.count.receivedBytes.Load(),
		DroppedOffline: c.count.offline.Load(), DroppedQueue: c.count.queue.Load(),
		DroppedSend: c.count.send.Load(), DroppedFrames: c.count.frames.Load(),
	}
}

// NewClient checks the config. It starts nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	switch {
	case cfg.Credential == nil:
		return nil, errors.New("relay client: Credential is not set")
	case cfg.URL == "" && (len(cfg.UDP) == 0 || cfg.WriteUDP == nil):
		return nil, errors.New("relay client: neither a URL nor UDP addresses")
	}
	if cfg.URL != "" {
		u, err := url.Parse(cfg.URL)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("relay client: %q is not a URL", cfg.URL)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	secret, err := deriveSecret(cfg.Private, cfg.Relay)
	if err != nil {
		return nil, fmt.Errorf("relay client: %w", err)
	}
	c := &Client{
		cfg: cfg, log: cfg.Log, secret: secret, tag: randomTag(), http: newHTTPClient(cfg),
		inbox: make(chan clientFrame, 64), kick: make(chan struct{}, 1),
		dialed: make(chan dialResult, 1),
		status: Status{Since: time.Now(), Err: ErrSilent},
	}
	c.scratch.New = func() any { return new(sendScratch) }
	return c, nil
}

// Status may be called at any time.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.status
	if st.Transport != NoTransport {
		st.RTT = time.Duration(c.rtt.Load())
	}
	return st
}

// Wake makes Run act at once: on a new credential, or because the network has
// changed. It does not block.
func (c *Client) Wake() {
	c.hurry.Store(true)
	c.nudge()
}

// nudge makes Run look at the time of the last packet.
func (c *Client) nudge() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func randomNonce() (n nonce) {
	rand.Read(n[:])
	return n
}
