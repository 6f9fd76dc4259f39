package relay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nexd/internal/logkey"
	"nexd/key"
)

// Server is a relay. Its UDP sockets are given to Run, its WebSocket clients
// come through ServeHTTP.
type Server struct {
	cfg     ServerConfig
	limits  Limits
	issuers atomic.Pointer[issuers]
	denied  denials
	log     *slog.Logger
	start   time.Time
	cookies *cookies
	table   *table
	count   counters

	deviceRate, networkRate, packetRate rate

	// Answers to addresses nobody proved yet, in all and by source; and auth
	// frames, whose check costs some 100 µs each, by source. A WebSocket
	// connection has a budget of its own.
	challengeAll    bucket
	challengeSource *sources
	authSource      *sources
	auths           chan authRequest
	crypto          chan struct{} // one place for each auth that is checked right now

	// mu guards the fields below.
	mu       sync.Mutex
	running  bool
	done     bool
	conns    map[*tlsConn]struct{}
	pending  int
	wg       sync.WaitGroup // of the goroutines of WebSocket connections
	draining atomic.Bool
}

// The budgets of what happens before a proof.
var (
	challengeTotal = perSecond(50_000, 50_000)
	challengeEach  = perSecond(500, 1000) // one office behind one address may have many devices
	authEach       = perSecond(100, 500)
	enterEach      = perSecond(2, 20) // hellos and auths of one WebSocket connection
	noticeEach     = perSecond(10, 50)
)

const (
	authQueue   = 512
	janitorTick = time.Second
	packetUnit  = 1
)

// NewServer checks the config. It starts nothing.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.clock == nil {
		cfg.clock = time.Now
	}
	l := cfg.Limits.withDefaults()
	start := cfg.clock()
	server := &Server{
		cfg: cfg, limits: l, log: cfg.Log,
		start: start, cookies: newCookies(start), table: newTable(),
		deviceRate:      perSecond(l.DeviceRate, l.DeviceBurst),
		networkRate:     perSecond(l.NetworkRate, l.NetworkBurst),
		packetRate:      perSecond(l.DevicePackets, l.DevicePackets/4),
		challengeSource: newSources(), authSource: newSources(),
		auths:  make(chan authRequest, authQueue),
		crypto: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		conns:  map[*tlsConn]struct{}{},
	}
	believed := issuers(cfg.Issuers)
	server.issuers.Store(&believed)
	return server, nil
}

// Public returns the relay's key, which clients must know.
func (s *Server) Public() key.Public { return s.cfg.Private.Public() }

// Run serves until ctx ends, then tells its clients, closes the sockets and
// returns nil. Without sockets it serves WebSocket clients alone. An error is
// that of a socket closed by somebody else; Run may be called once.
func (s *Server) Run(ctx context.Context, sockets ...*Socket) error {
	s.mu.Lock()
	again := s.running
	s.running = true
	s.mu.Unlock()
	if again {
		return errors.New("relay: Run was called before")
	}
	defer s.close(sockets)
	g, ctx := errgroup.WithContext(ctx)
	for _, socket := range sockets {
		g.Go(func() error {
			if err := s.serveUDP(ctx, socket); err != nil {
				return fmt.Errorf("relay on %s: %w", socket.LocalAddr(), err)
			}
			return nil
		})
	}
	for range cap(s.crypto) {
		g.Go(func() error { s.admitQueued(ctx); return nil })
	}
	g.Go(func() error { s.tidy(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		s.farewell(ByeClosing)
		for _, socket := range sockets {
			socket.interrupt()
		}
		return nil
	})
	return g.Wait()
}

// close ends everything Run did not start but owns. WebSocket clients have a
// moment to take what waits for them.
func (s *Server) close(sockets []*Socket) {
	for _, socket := range sockets {
		socket.conn.Close()
	}
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	for _, c := range s.connections() {
		c.closeSoon()
	}
	waited := make(chan struct{})
	go func() { s.wg.Wait(); close(waited) }()
	select {
	case <-waited:
		return
	case <-time.After(lingerTime):
	}
	for _, c := range s.connections() {
		c.shut()
	}
	<-waited
}

func (s *Server) connections() []*tlsConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// Drain tells every client to use another relay, and admits no new sessions.
// Those that are here go on until they leave or Run ends.
func (s *Server) Drain() {
	if !s.draining.Swap(true) {
		s.farewell(ByeDraining)
	}
}

// End ends the session of a device. It may come back: see [Server.Deny].
func (s *Server) End(network NetworkID, device key.Public) {
	if found := s.table.session(network, device); found != nil {
		s.end(found, ByeDenied)
	}
}

// farewell says bye to all, without ending their sessions.
func (s *Server) farewell(why Farewell) {
	for _, session := range s.table.all() {
		s.sayBye(session, why)
	}
}

// now is the time since the server's start.
func (s *Server) now() int64 { return int64(s.cfg.clock().Sub(s.start)) }

// end takes a session out and tells its client.
func (s *Server) end(session *session, why Farewell) {
	s.table.mu.Lock()
	out := s.table.removeLocked(session, s.now())
	s.table.mu.Unlock()
	if out {
		s.ended(session, why)
	}
}

// ended does what follows when a session was taken out.
func (s *Server) ended(session *session, why Farewell) {
	s.log.Debug("relay session ended", logkey.Peer, session.device.Short(), logkey.Reason, why.String())
	if why != ByeLeaving {
		s.sayBye(session, why)
	}
	if l := session.link.Load(); l.tls != nil {
		l.tls.closeSoon()
	}
}

func (s *Server) sayBye(session *session, why Farewell) {
	l := session.link.Load()
	frame := appendBye(make([]byte, 0, byeSize), l.tag, why)
	m := byeMAC(session, macByeDown, frame)
	s.reply(l, append(frame, m[:]...))
}

// byeMAC covers the session's tag too, so that a bye counts for one session.
func byeMAC(session *session, use string, frame []byte) mac {
	var tag [4]byte
	binary.BigEndian.PutUint32(tag[:], session.tag)
	return prove(&session.secret, use, frame, tag[:])
}

// reply sends one frame outside of a batch. It copies.
func (s *Server) reply(l *link, frame []byte) {
	if l.tls != nil {
		l.tls.push(nil, frame)
		return
	}
	if _, err := l.udp.WriteTo(frame, l.addr); err != nil {
		s.count.drop(DropSend)
	}
}

// tidy ends sessions that are idle or whose credential ran out.
func (s *Server) tidy(ctx context.Context) {
	tick := time.NewTicker(janitorTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.tidyOnce()
		}
	}
}

func (s *Server) tidyOnce() {
	now := s.now()
	idle := now - int64(s.limits.Idle)
	type leaver struct {
		session *session
		why     Farewell
	}
	var out []leaver
	s.table.mu.RLock()
	for _, n := range s.table.networks {
		for _, session := range n.sessions {
			switch {
			case session.expires <= now:
				out = append(out, leaver{session, ByeExpired})
			case session.heard.Load() < idle:
				out = append(out, leaver{session, ByeIdle})
			}
		}
	}
	s.table.mu.RUnlock()
	for _, l := range out {
		s.end(l.session, l.why)
	}
	s.table.tidy(now)
	s.denied.tidy(s.cfg.clock())
}

// randomTag returns a tag that is not 0, which stands for none.
func randomTag() uint32 {
	var b [4]byte
	for {
		rand.Read(b[:])
		if t := binary.BigEndian.Uint32(b[:]); t != 0 {
			return t
		}
	}
}
