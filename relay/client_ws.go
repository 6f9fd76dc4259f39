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
	ws     *websocket.Conn
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
	ws, resp, err := websocket.Dial(ctx, c.cfg.URL, &websocket.DialOptions{
		HTTPClient: c.http, Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err == nil && ws.Subprotocol() != Subprotocol {
		ws.CloseNow()
		err = fmt.Errorf("%s is no relay", c.cfg.URL)
	}
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			err = fmt.Errorf("answer %s: %w", resp.Status, err)
		}
		c.dialed <- dialResult{err: fmt.Errorf("relay over websocket: %w", err)}
		return
	}
	ws.SetReadLimit(maxMessage)
	c.dialed <- dialResult{conn: c.newConn(ws)}
}

// newConn starts the connection's two goroutines; close ends them.
func (c *Client) newConn(ws *websocket.Conn) *clientConn {
	ctx, cancel := context.WithCancel(context.Background())
	w := &clientConn{client: c, ws: ws, cancel: cancel, broken: make(chan error)}
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
	w.ws.CloseNow()
}

// close ends the connection and waits for its goroutines.
func (w *clientConn) close() {
	w.cancel()
	w.fail(context.Canceled)
	w.wg.Wait()
}

func (w *clientConn) read() error {
	buf := make([]byte, maxMessage)
	for {
		kind, r, err := w.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return err
		}
		if kind != websocket.MessageBinary {
			return fmt.Errorf("a message of kind %s", kind)
		}
		w.heard.Store(time.Now().UnixNano())
		if err := w.frames(buf[:n]); err != nil {
			return err
		}
		if n == len(buf) {
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
		}
	}
}

func (w *clientConn) frames(message []byte) error {
	c := w.client
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
			message = message[:0]
			_, closed := w.queue.take(func(i ringItem) bool {
				if len(message)+lengthSize+len(i.buf.b) > cap(message) {
					return false
				}
				message = appendFramed(message, i.buf.b, nil)
				return true
			})
			if len(message) > 0 {
				if err := w.ws.Write(ctx, websocket.MessageBinary, message); err != nil {
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
