package proxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/test/idle"
)

// jammedSocket is a socket of a mesh that has no room for anything: datagrams
// come from as many addresses as asks has numbers, and answers wait.
type jammedSocket struct {
	net.PacketConn // for its address
	asks, waits    chan int
	done           chan struct{}
	once           sync.Once
}

func (s *jammedSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case i := <-s.asks:
		return copy(b, "?"), &net.UDPAddr{IP: net.IPv4(127, 77, byte(i>>8), byte(i)), Port: 9}, nil
	case <-s.done:
		return 0, nil, net.ErrClosed
	}
}

func (s *jammedSocket) WriteTo([]byte, net.Addr) (int, error) {
	select {
	case s.waits <- 1:
	case <-s.done:
	}
	<-s.done
	return 0, net.ErrClosed
}

func (s *jammedSocket) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

type jammedMesh struct {
	loopbackMesh
	socket *jammedSocket
}

func (m jammedMesh) ListenUDP(netip.AddrPort) (net.PacketConn, error) { return m.socket, nil }

// Flows whose answers wait for room hold little of what has come for them, and
// every one of them some.
func TestBlockedFlowsHoldLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("many flows take a while")
	}
	const flows = 300
	w := loopbackWorld(t)
	s := &jammedSocket{asks: make(chan int), waits: make(chan int), done: make(chan struct{})}
	w.mesh = jammedMesh{loopbackMesh{w.own[0]}, s}
	w.start(time.Second)
	t.Cleanup(func() { s.Close() })
	e := w.udpEnds("ingress", 0)
	server := must[net.PacketConn](t)(e.listen())
	var serving sync.WaitGroup
	serving.Go(func() {
		buf, answer := make([]byte, 10), make([]byte, 1200)
		for {
			_, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			for range 40 {
				_, _ = server.WriteTo(answer, from)
			}
		}
	})
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { server.Close() })
	w.apply(e.line(fmt.Sprintf(",max-conns=%d", flows)))
	w.listening(0)

	before := idle.Memory()
	late := time.After(patience)
	for i := range flows {
		for asks, waits := s.asks, (chan int)(nil); asks != nil || waits != nil; {
			select {
			case asks <- i + 2:
				asks, waits = nil, s.waits
			case <-waits:
				waits = nil
			case <-late:
				t.Fatalf("only %d flows answer", i)
			}
		}
	}
	held := int(idle.Memory()-before) >> 20
	t.Logf("%d flows hold %d MB", flows, held)
	if held > 80 && !raceEnabled {
		t.Errorf("%d flows whose answers wait hold %d MB", flows, held)
	}
}
