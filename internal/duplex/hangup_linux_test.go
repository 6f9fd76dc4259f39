package duplex

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// quietStream is a stream of a user-space stack on which nothing happens.
type quietStream struct {
	net.Conn // nil: only what is below is called
	finished chan struct{}
}

func (*quietStream) Notify(func(readable, writable bool))            {}
func (*quietStream) TryRead([]byte) (int, error)                     { return 0, nil }
func (*quietStream) ReadPieces(int, func([][]byte) int) (int, error) { return 0, nil }
func (*quietStream) WriteFrom(n int, fill func([]byte) error) (int, error) {
	return n, fill(make([]byte, n))
}
func (*quietStream) Broken() (bool, error) { return false, nil }
func (*quietStream) Close() error          { return nil }
func (s *quietStream) CloseWrite() error   { close(s.finished); return nil }

// A unix socket whose peer has closed may stay for as long as the mesh stream
// does, and costs nothing meanwhile.
func TestPairWithAClosedUnixPeerIsQuiet(t *testing.T) {
	m := NewMover()
	m.QuietTime = time.Millisecond
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	host, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	mesh := &quietStream{finished: make(chan struct{})}
	ended := make(chan Result, 1)
	go m.Move(ctx, host, mesh, Options{}, func(r Result) { ended <- r })
	if _, err := io.WriteString(peer, "x"); err != nil {
		t.Fatal(err)
	}
	if err := peer.Close(); err != nil {
		t.Fatal(err)
	}
	<-mesh.finished

	deadline := time.Now().Add(10 * time.Second)
	for before, still := naps(m), 0; still < 20; { // far more than the time to fall asleep
		time.Sleep(5 * m.QuietTime)
		now := naps(m)
		if still++; now != before {
			before, still = now, 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("woken %d times", now)
		}
	}
	cancel()
	if r := <-ended; r.End != Cut || r.AtoB != 1 {
		t.Errorf("%+v", r)
	}
	m.Close()
}

// naps is how often a pair has been woken by the poller.
func naps(m *Mover) (n int32) {
	m.sys.pollMu.Lock()
	p := m.sys.poller
	m.sys.pollMu.Unlock()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.places {
		n += at.generation
	}
	return n
}
