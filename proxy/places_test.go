package proxy_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/proxy"
)

// slowClose is a mesh whose first datagram socket that was dialled takes a while
// to close.
type slowClose struct {
	proxy.Mesh
	once             sync.Once
	closing, closeIt chan struct{}
}

func (m *slowClose) DialUDP(to netip.AddrPort) (net.Conn, error) {
	c, err := m.Mesh.DialUDP(to)
	if err != nil {
		return nil, err
	}
	m.once.Do(func() { c = &slowConn{Conn: c, mesh: m} })
	return c, nil
}

type slowConn struct {
	net.Conn
	mesh *slowClose
	once sync.Once
}

func (c *slowConn) Close() error {
	c.once.Do(func() {
		close(c.mesh.closing)
		<-c.mesh.closeIt
	})
	return c.Conn.Close()
}

// endingFlow starts a rule with one flow, from c, that is over and not gone yet;
// release lets it go.
func endingFlow(t *testing.T, options string) (w *world, e udpEnds, c *asker, release func()) {
	t.Helper()
	w = loopbackWorld(t)
	m := &slowClose{Mesh: w.mesh, closing: make(chan struct{}), closeIt: make(chan struct{})}
	release = sync.OnceFunc(func() { close(m.closeIt) })
	w.mesh = m
	w.start(time.Second)
	t.Cleanup(release)
	e = w.udpEnds("egress", 0)
	echoPackets(t, e.listen)
	w.apply(e.line(",idle-timeout=300ms" + options))
	w.listening(0)
	c = dialledUDP(t, e.dial)
	exchange(t, c, []byte("x"))
	select {
	case <-m.closing:
	case <-time.After(patience):
		t.Fatal("a quiet flow does not end")
	}
	return w, e, c, release
}

// A flow that is over gives its place back, also when the next one of the same
// sender is there before it has gone.
func TestPlaceOfAFlowThatWasReplaced(t *testing.T) {
	w, _, c, release := endingFlow(t, "")
	exchange(t, c, []byte("again"))
	release()
	w.eventually(0, "without flows", func(s proxy.RuleStatus) bool { return s.Active == 0 })
}

// A full rule takes the place of a flow that is over and has not gone yet.
func TestPlaceOfAFlowThatIsOver(t *testing.T) {
	w, e, _, release := endingFlow(t, ",max-conns=1")
	exchange(t, dialledUDP(t, e.dial), []byte("y"))
	if s := w.status(0); s.Stats.RefusedMax != 0 {
		t.Errorf("%d datagrams refused", s.Stats.RefusedMax)
	}
	release()
	w.eventually(0, "without flows", func(s proxy.RuleStatus) bool { return s.Active == 0 })
}
