package controlclient

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"nexd/controlapi"
)

// Config says which service and how it is known to be the right one.
type Config struct {
	// ServiceURL is https://HOST:PORT, possibly with a path.
	ServiceURL string
	// Pin is the service's key. When set, that key alone is the service's
	// identity: names, dates and authorities of its certificate do not matter,
	// so a device with a wrong clock joins all the same.
	Pin controlapi.Pin
	// CAFile holds authorities (PEM) to trust besides the system's.
	CAFile string
	// Insecure accepts any certificate, whatever Pin and CAFile say.
	Insecure bool
	// Log gets a line per change of fortune; nil: silence.
	Log *slog.Logger
}

// Client talks to one service. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	log       *slog.Logger
	trust     *trust
	tls       *tls.Config // of the service; net/http has a clone
	transport *http.Transport
	requests  *http.Client // with a time limit
	streams   *http.Client // without

	mu sync.Mutex // guards the fields below
	// now ends at the next Reconnect, which calls end.
	now context.Context
	end context.CancelFunc
}

// Times of one connection. A request has attemptTimeout from its first byte
// out to its last byte in.
const (
	dialTimeout    = 10 * time.Second
	attemptTimeout = 20 * time.Second
	idleTimeout    = 60 * time.Second
)

// New checks cfg and returns a client. It makes no connection.
func New(cfg Config) (*Client, error) {
	base, err := controlapi.ParseServiceURL(cfg.ServiceURL)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	trust, err := cfg.trust()
	if err != nil {
		return nil, err
	}
	tlsConfig := trust.forService(u.Hostname())
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4},
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: proxyAnswer,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        tlsConfig.Clone(),
		TLSHandshakeTimeout:    dialTimeout,
		Protocols:              &protocols,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    2,
		ResponseHeaderTimeout:  attemptTimeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Client{
		base: u, log: log, trust: trust, tls: tlsConfig, transport: transport,
		requests: &http.Client{Transport: transport, CheckRedirect: stay, Timeout: attemptTimeout},
		streams:  &http.Client{Transport: transport, CheckRedirect: stay},
	}
	c.now, c.end = context.WithCancel(context.Background())
	return c, nil
}

// URL returns the service's URL, without a trailing slash.
func (c *Client) URL() string { return c.base.String() }

// Reconnect drops the watch stream and every idle connection and tries again
// at once: the machine woke up, or its network changed. Cheap; call it freely:
// three times the next try comes at once, from then on once a second.
// It does not shorten the wait after another copy of the device took over.
func (c *Client) Reconnect() {
	c.mu.Lock()
	end := c.end
	c.now, c.end = context.WithCancel(context.Background())
	c.mu.Unlock()
	end()
	c.transport.CloseIdleConnections()
}

// era returns a context that the next Reconnect ends.
func (c *Client) era() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Close drops idle connections. Calls under way end with their contexts.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// sleep waits for d, until wake is closed (nil: never) or until ctx ends,
// whose error it returns.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wake:
	case <-t.C:
	}
	return nil
}
