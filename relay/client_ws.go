package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"nexd/key"
)

// maxDelivered bounds how many packets Deliver gets at once.
const maxDelivered = 64

const dialTimeout = 10 * time.Second

// newHTTPClient makes what the WebSocket handshake needs: HTTP/1.1, and a
// proxy if the environment names one.
func newHTTPClient(cfg ClientConfig) *http.Client {
	tc := cfg.TLS.Clone()
	if tc == nil {
		tc = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tc.NextProtos = []string{"http/1.1"}
	proxy := cfg.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	connect := cfg.Dial
	if connect == nil {
		connect = new(net.Dialer).DialContext
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return quiet(c), nil
	}
	return &http.Client{Transport: &http.Transport{
		Proxy: proxy, DialContext: dial, TLSClientConfig: tc,
		TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: false, MaxIdleConns: 1,
		// Set and empty: no HTTP/2, over which there is no upgrade.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
}

// clientConn is a WebSocket connection to the relay: a reader and a writer.
type clientConn struct {
	client *Client
	ws     *wsConn
	tcp    *tcpConn // below TLS; nil: unknown

	// Of the reader: a peer's packets in the message at hand.
	from    key.Public
	packets [][]byte

	queue  outgoing
	heard  atomic.Int64 // UnixNano
	cancel context.CancelFunc
	wg     sync.WaitGroup
	broken chan error // closed when the reader or the writer has ended
	once   sync.Once
	err    error
}

type dialResult struct {
	conn *clientConn
	err  error
}

// dial connects; the result comes through c.dialed.
func (c *Client) dial(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	up := &upgrade{RoundTripper: c.http.Transport}
	handshake, resp, err := websocket.Dial(ctx, c.cfg.URL, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: up}, Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err == nil && (handshake.Subprotocol() != Subprotocol || up.conn == nil):
		err = fmt.Errorf("%s is no relay", c.cfg.URL)
	case err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		err = fmt.Errorf("answer %s: %w", resp.Status, err)
	}
	if handshake != nil {
		handshake.CloseNow() // it has a connection that is none
	}
	if err != nil {
		if up.conn != nil {
			up.conn.Close()
		}
		c.dialed <- dialResult{err: fmt.Errorf("relay over websocket: %w", err)}
		return
	}
	c.dialed <- dialResult{conn: c.newConn(up.conn, up.below)}
}

// upgrade keeps the connection from the WebSocket library, which does the
// handshake and no more.
type upgrade struct {
	http.RoundTripper
	conn  io.ReadWriteCloser
	below net.Conn // what the HTTP client had, or nil
}

// RoundTrip implements [http.RoundTripper].
func (u *upgrade) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { u.below = got.Conn }}
	resp, err := u.RoundTripper.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok {
		u.conn = conn
		resp.Body = kept{conn}
	}
	return resp, nil
}

// kept is a connection that is not closed.
type kept struct{ io.ReadWriter }

// Close does nothing.
func (kept) Close() error { return nil }

// newConn starts the connection's two goroutines; close ends them.
func (c *Client) newConn(conn io.ReadWriteCloser, below net.Conn) *clientConn {
	ctx, cancel := context.WithCancel(context.Background())
	w := &clientConn{client: c, packets: make([][]byte, 0, maxDelivered), ws: &wsConn{rw: conn, client: true}, cancel: cancel, broken: make(chan error)}
	if below != nil {
		limitUnsent(below)
		_, w.tcp = tcpOf(below)
	}
	w.queue.init()
	w.heard.Store(time.Now().UnixNano())
	w.wg.Add(2)
	go func() { defer w.wg.Done(); w.fail(w.read()) }()
	go func() { defer w.wg.Done(); w.fail(w.write(ctx)) }()
	return w
}

// fail notes the first error and closes the connection.
func (w *clientConn) fail(err error) {
	w.once.Do(func() {
		w.err = err
		close(w.broken)
	})
	w.queue.close()
	w.ws.rw.Close()
}

// close ends the connection and waits for its goroutines.
func (w *clientConn) close() {
	w.cancel()
	w.fail(context.Canceled)
	w.wg.Wait()
}

func (w *clientConn) read() error {
	for {
		if err := w.ws.read(w.frames); err != nil {
			w.ws.refuse(err)
			return err
		}
	}
}

func (w *clientConn) frames(message []byte) error {
	c := w.client
	w.heard.Store(time.Now().UnixNano())
	defer w.deliver()
	for len(message) > 0 {
		frame, rest, err := nextFramed(message)
		if err != nil {
			return err
		}
		message = rest
		peer, packet, ok, short := c.frame(frame)
		switch {
		case ok:
			if peer != w.from || len(w.packets) == cap(w.packets) {
				w.deliver()
			}
			w.from = peer
			w.packets = append(w.packets, packet)
		case short:
			c.post(frame, netip.AddrPort{}, w)
		}
	}
	return nil
}

// deliver hands on what was collected.
func (w *clientConn) deliver() {
	if len(w.packets) > 0 && w.client.cfg.Deliver != nil {
		w.client.cfg.Deliver(w.from, w.packets)
	}
	clear(w.packets)
	w.packets = w.packets[:0]
}

// write puts waiting frames into messages. A write that blocks is ended by
// close: pings find out that nothing comes back.
func (w *clientConn) write(ctx context.Context) error {
	began := time.Now()
	var messages [together]*message
	for {
		n, closed := w.queue.take(messages[:], int64(time.Since(began)))
		if n > 0 {
			err := w.send(messages[:n])
			for _, m := range messages[:n] {
				m.done()
			}
			if err != nil {
				return err
			}
			continue
		}
		if closed {
			return context.Canceled
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.queue.wake:
		}
	}
}

// send writes messages, by one write if it can.
func (w *clientConn) send(messages []*message) error {
	if len(messages) > 1 && w.tcp != nil {
		w.tcp.hold()
	}
	for _, m := range messages {
		if err := w.ws.write(m.room()); err != nil {
			return err
		}
	}
	if len(messages) > 1 && w.tcp != nil {
		return w.tcp.release()
	}
	return nil
}
