package relay

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"nexd/internal/logkey"
)

// Subprotocol is what clients ask for in the WebSocket handshake.
const Subprotocol = "nexd-relay.v1"

const (
	// writeChunk is how long messages are, with their header: one TLS record,
	// and so short that senders alternate.
	writeChunk = 16 << 10
	lingerTime = 2 * time.Second
)

// tlsConn is a WebSocket client. Its reader goroutine lives as long as it
// does; a writer only while something waits.
type tlsConn struct {
	server *Server
	ws     *wsConn
	net    net.Conn
	tcp    *tcpConn // below TLS; nil: it did not come by a Listener
	remote string
	place  place
	queue  fairQueue

	closing atomic.Bool
	writer  atomic.Bool

	// Of the reader goroutine.
	session *session
	pending bool  // not admitted yet
	last    int64 // when a message came, nanoseconds since the server's start
	enters  bucket

	mu   sync.Mutex // guards gone
	gone bool       // the reader has ended: no writer may start
}

// ServeHTTP takes a WebSocket client; it returns at once, the connection lives
// on until Run ends. Any path will do. Before Run it answers 503.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.reserve() {
		http.Error(w, "the relay is full or not running", http.StatusServiceUnavailable)
		return
	}
	grab := &hijacker{ResponseWriter: w}
	handshake, err := websocket.Accept(grab, r, &websocket.AcceptOptions{
		Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		s.log.Debug("relay websocket", logkey.Addr, r.RemoteAddr, logkey.Err, err)
		s.release(nil, true)
		return
	}
	handshake.CloseNow() // it has a connection that is none
	c := &tlsConn{server: s, ws: &wsConn{rw: &buffered{grab.conn, grab.reader}}, net: grab.conn, remote: r.RemoteAddr, place: randomPlace(), pending: true}
	c.queue.limit.least = s.limits.Queue
	c.ws.before = c.hurry
	grab.conn.SetReadDeadline(time.Now().Add(s.limits.AdmissionTimeout))
	limitUnsent(grab.conn)
	_, c.tcp = tcpOf(grab.conn)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	late := s.done
	s.mu.Unlock()
	if late {
		c.shut()
	}
	// The goroutine of net/http holds much that is not needed any more.
	go c.serve()
}

// reserve counts a connection that is not admitted yet, and its goroutine.
func (s *Server) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || s.done || s.pending >= s.limits.Pending || len(s.conns) >= s.limits.Sessions+s.limits.Pending {
		return false
	}
	s.pending++
	s.wg.Add(1)
	return true
}

// settled says that a connection is pending no more.
func (s *Server) settled() {
	s.mu.Lock()
	s.pending--
	s.mu.Unlock()
}

// release undoes reserve at a connection's end.
func (s *Server) release(c *tlsConn, pending bool) {
	if c != nil {
		c.mu.Lock()
		c.gone = true
		c.mu.Unlock()
	}
	s.mu.Lock()
	if pending {
		s.pending--
	}
	delete(s.conns, c)
	s.mu.Unlock()
	s.wg.Done()
}

// calm is how long a client is quiet before what its goroutine has grown to is given back.
const calm = 5 * time.Second

// serve reads until the connection ends. A goroutine's stack grows with what
// it does and seldom shrinks; that of an idle client should hold no more than
// waiting needs, so a message after a pause, and the admission, end with a
// fresh goroutine going on.
func (c *tlsConn) serve() {
	s := c.server
	for {
		if err := c.ws.read(c.message); err != nil {
			c.ws.refuse(err)
			c.finish()
			return
		}
		now := s.now()
		fresh := now-c.last > int64(calm)
		c.last = now
		if c.pending && c.session != nil {
			c.pending, fresh = false, true
			s.settled()
			c.net.SetReadDeadline(time.Time{})
		}
		if fresh {
			go c.serve()
			return
		}
	}
}

// finish does what follows the last message.
func (c *tlsConn) finish() {
	if c.session != nil {
		c.server.end(c.session, ByeLeaving)
	}
	c.shut()
	c.server.release(c, c.pending)
}

// forwarders for messages of WebSocket clients.
type pooledForwarder struct{ pool sync.Pool }

func (p *pooledForwarder) get(s *Server) *forwarder {
	if f, ok := p.pool.Get().(*forwarder); ok && f.server == s {
		return f
	}
	return newForwarder(s, nil)
}

var forwarders pooledForwarder

// errNoFrames is a message that is not made of a relay's frames.
var errNoFrames = &wsError{wsUnsupported, "not a relay's frames"}

// message handles the frames of one message.
func (c *tlsConn) message(rest []byte) (err error) {
	f := forwarders.get(c.server)
	defer forwarders.pool.Put(f)
	defer f.flush()
	f.begin()
	for len(rest) > 0 {
		var frame []byte
		if frame, rest, err = nextFramed(rest); err != nil {
			f.tally.drop(DropMalformed, 1)
			return errNoFrames
		}
		c.frame(f, frame)
	}
	return nil
}

func (c *tlsConn) frame(f *forwarder, frame []byte) {
	kind := FrameType(frame[0])
	if (kind == FrameHello || kind == FrameAuth) && !c.enters.take(enterEach, 1, f.now) {
		f.tally.drop(DropBudget, 1)
		return
	}
	switch kind {
	case FrameHello:
		n, err := parseHello(frame)
		if err != nil {
			f.tally.drop(DropMalformed, 1)
			return
		}
		f.challenge(n, c.place, &link{tls: c})
	case FrameAuth:
		c.auth(f, frame)
	default:
		if c.session == nil {
			f.tally.drop(DropStranger, 1)
			return
		}
		if c.session.ended.Load() {
			f.tally.drop(DropEnded, 1)
			return
		}
		f.fromSession(c.session, frame)
	}
}

// auth checks an auth frame in place: as many at once as there are places for it.
func (c *tlsConn) auth(f *forwarder, frame []byte) {
	s := c.server
	a, err := parseAuth(frame)
	if err != nil {
		f.tally.drop(DropMalformed, 1)
		return
	}
	if !s.cookies.check(a.Cookie, c.place, s.cfg.clock()) {
		f.challenge(a.Nonce, c.place, &link{tls: c})
		return
	}
	s.crypto <- struct{}{}
	defer func() { <-s.crypto }()
	if got := s.admit(frame, link{tls: c}); got != nil {
		c.session = got
	}
}

// push queues a frame for the client and sees to it that somebody writes. It
// returns how many frames were dropped.
func (c *tlsConn) push(from *session, frame []byte) (dropped int) {
	dropped, _ = c.queue.push(from, frame)
	c.wake()
	return dropped
}

// wake starts a writer unless there is one.
func (c *tlsConn) wake() {
	if c.writer.Swap(true) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		c.server.wg.Add(1) // the reader is still counted
		go c.write()
	}
}

var chunks = sync.Pool{New: func() any { b := make([]byte, 0, writeChunk); return &b }}

// write writes messages while there are frames.
func (c *tlsConn) write() {
	defer c.server.wg.Done()
	room := chunks.Get().(*[]byte)
	defer chunks.Put(room)
	for {
		any, err := c.writeSome(*room)
		if err != nil {
			c.server.log.Debug("relay websocket write", logkey.Addr, c.remote, logkey.Err, err)
			c.shut()
			return // with writer true: nobody starts another
		}
		if any {
			continue
		}
		c.writer.Store(false)
		// What came between pop and here found a writer.
		if c.queue.empty() || c.writer.Swap(true) {
			break
		}
	}
	if c.closing.Load() {
		c.shut()
	}
}

// writeSome writes a message, or some by one write if they are there, and
// reports whether there was any.
func (c *tlsConn) writeSome(room []byte) (any bool, err error) {
	held := false
	for range together {
		message, more := c.queue.pop(room[:wsHeadroom], c.server.now())
		if !more {
			break
		}
		if !any && c.tcp != nil && !c.queue.empty() {
			held = true
			c.tcp.hold()
		}
		any = true
		if err := c.ws.write(message); err != nil {
			return true, err
		}
		if !held {
			break
		}
	}
	if held {
		err = c.tcp.release()
	}
	return any, err
}

// hurry bounds a write: a client that takes nothing is given up.
func (c *tlsConn) hurry() { c.net.SetWriteDeadline(time.Now().Add(c.server.limits.WriteTimeout)) }

// closeSoon closes the connection when what is queued was written.
func (c *tlsConn) closeSoon() {
	c.closing.Store(true)
	c.net.SetReadDeadline(time.Now().Add(lingerTime))
	c.wake()
}

// shut closes the connection now. It may be called again.
func (c *tlsConn) shut() {
	c.queue.close()
	if tcp, _ := tcpOf(c.net); tcp != nil {
		tcp.Close() // first: TLS would wait for a client that reads nothing to take its farewell
	}
	c.net.Close()
}

func (q *fairQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.turns) == 0
}

// hijacker keeps the connection from the WebSocket library, which does the
// handshake and no more.
type hijacker struct {
	http.ResponseWriter
	conn   net.Conn
	reader io.Reader // of what came early, too
}

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("hijack: %w", err)
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	if err := rw.Writer.Flush(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	conn.SetDeadline(time.Time{}) // what the HTTP server set for requests
	h.conn, h.reader = conn, conn
	if len(early) > 0 {
		h.reader = &startsWith{bytes.NewReader(bytes.Clone(early)), conn}
	}
	none := detached{conn}
	return none, bufio.NewReadWriter(bufio.NewReaderSize(none, 0), bufio.NewWriterSize(none, 0)), nil
}

// startsWith reads what was read before, then the connection.
type startsWith struct {
	early *bytes.Reader
	conn  net.Conn
}

func (s *startsWith) Read(b []byte) (int, error) {
	if s.early.Len() > 0 {
		return s.early.Read(b)
	}
	return s.conn.Read(b)
}

// buffered is a connection of which something was read already.
type buffered struct {
	net.Conn
	r io.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
