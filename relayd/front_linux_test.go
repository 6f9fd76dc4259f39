package relayd

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nexd/relay"
)

// noting is a listener that remembers what it accepted.
type noting struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
}

func (n *noting) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		n.mu.Lock()
		n.conns = append(n.conns, c.(*net.TCPConn))
		n.mu.Unlock()
	}
	return c, err
}

// unsent is what the kernel may hold unsent of the connection last accepted.
func (n *noting) unsent(t *testing.T) (bytes int) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	raw, err := n.conns[len(n.conns)-1].SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) {
		bytes, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return bytes
}

// The relay knows the TCP connection of a WebSocket client: it gathers what
// leaves, keeps the kernel from queueing for a slow client, and ends one that
// reads nothing without waiting for it.
func TestRelayFindsTheTCPConnection(t *testing.T) {
	s := newService(t)
	cfg, l := config(t, s)
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := &noting{Listener: r.web}
	r.web = web
	startMade(t, r, l).serves()
	s.device("net_1", relay.TLS, time.Hour).connected()
	if got := web.unsent(t); got != 128<<10 {
		t.Errorf("the kernel may hold %d bytes unsent for a client", got)
	}
}

// startMade is start of a relay that was changed before.
func startMade(t *testing.T, r *Relay, l *log) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Relay: r, t: t, log: l, cancel: cancel, done: make(chan error, 1)}
	go func() { run.done <- r.Run(ctx) }()
	t.Cleanup(func() { run.stop() })
	return run
}
