package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

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
	return &http.Client{Transport: &http.Transport{
		Proxy: proxy, DialContext: cfg.Dial, TLSClientConfig: tc,
		TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: false, MaxIdleConns: 1,
		// Set and empty: no HTTP/2, over which there is no upgrade.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
}

// clientConn is a WebSocket connection to the relay: a reader and a writer.
type clientConn struct {
	client *Client
	ws     *wsConn
	queue  ring
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
	c.dialed <- dialResult{conn: c.newConn(up.conn)}
}

// upgrade keeps the connection from the WebSocket library, which does the
// handshake and no more.
type upgrade struct {
	http.RoundTripper
	conn io.ReadWriteCloser
}

// RoundTrip implements [http.RoundTripper].
func (u *upgrade) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.RoundTripper.RoundTrip(r)
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
func (c *Client) newConn(conn io.ReadWriteCloser) *clientConn {
	ctx, cancel := context.WithCancel(context.Background())
	w := &clientConn{client: c, ws: &wsConn{rw: conn, client: true}, cancel: cancel, broken: make(chan error)}
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
	for len(message) > 0 {
		frame, rest, err := nextFramed(message)
		if err != nil {
			return err
		}
		message = rest
		peer, packet, ok, short := c.frame(frame)
		switch {
		case ok:
			if c.cfg.Deliver != nil {
				c.cfg.Deliver(peer, packet)
			}
		case short:
			c.post(frame, netip.AddrPort{}, w)
		}
	}
	return nil
}

// write puts waiting frames into messages. A write that blocks is ended by
// close: pings find out that nothing comes back.
func (w *clientConn) write(ctx context.Context) error {
	message := make([]byte, 0, writeChunk)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.queue.wake:
		}
		for {
			message = message[:wsHeadroom]
			_, closed := w.queue.take(func(i ringItem) bool {
				if len(message)+lengthSize+len(i.buf.b) > cap(message) {
					return false
				}
				message = appendFramed(message, i.buf.b, nil)
				return true
			})
			if len(message) > wsHeadroom {
				if err := w.ws.write(message); err != nil {
					return err
				}
				continue
			}
			if closed {
				return context.Canceled
			}
			break
		}
	}
}
