package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"nexd/key"
)

// udp is a real socket with an agent on it.
type udp struct {
	*net.UDPConn
	changed chan struct{}
}

func (u udp) WriteSTUN(b []byte, to netip.AddrPort) error {
	_, err := u.WriteToUDPAddrPort(b, to)
	return err
}

func (u udp) WriteWhole(b []byte, _ key.Public, to netip.AddrPort) error { return u.WriteSTUN(b, to) }

func (u udp) Port() uint16                                              { return uint16(u.LocalAddr().(*net.UDPAddr).Port) }
func (u udp) SetRoute(key.Public, netip.AddrPort, netip.AddrPort, bool) {}
func (u udp) WriteRelay(uint16, key.Public, []byte) error               { return errors.New("no relays") }

// TestTwoNodesOnThisMachine: real sockets, this machine's own addresses, no STUN.
func TestTwoNodesOnThisMachine(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var agents [2]*Agent
	var sockets [2]udp
	var keys [2]key.Private
	done := make(chan struct{}, 4)
	for i := range agents {
		c, err := net.ListenUDP("udp", &net.UDPAddr{})
		if err != nil {
			t.Fatal(err)
		}
		sockets[i], keys[i] = udp{c, make(chan struct{}, 1)}, key.NewPrivate()
	}
	for i := range agents {
		other := 1 - i
		agents[i] = New(Config{
			Private: keys[i], Socket: sockets[i], Paths: sockets[i],
			Signal: func(_ context.Context, _ key.Public, sealed []byte) error {
				agents[other].HandleSignal(keys[i].Public(), sealed)
				return nil
			},
			OnChange: func() {
				select {
				case sockets[i].changed <- struct{}{}:
				default:
				}
			},
		})
		agents[i].SetPeers([]Peer{{Key: keys[other].Public()}})
	}
	for i := range agents {
		go func() { agents[i].Run(ctx); done <- struct{}{} }()
		go func() {
			defer func() { done <- struct{}{} }()
			b := make([]byte, 2000)
			for {
				n, from, err := sockets[i].ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				agents[i].HandleSTUN(b[:n], from)
			}
		}()
	}
	agents[0].Want(keys[1].Public())
	deadline := time.After(20 * time.Second)
	for i := range agents {
		for agents[i].Peer(keys[1-i].Public()).State != Direct {
			select {
			case <-sockets[i].changed:
			case <-deadline:
				t.Fatalf("node %d: %+v, %+v", i, agents[i].Peer(keys[1-i].Public()), agents[i].Stats())
			}
		}
		t.Logf("node %d: %+v", i, agents[i].Peer(keys[1-i].Public()))
	}
	cancel()
	sockets[0].Close()
	sockets[1].Close()
	for range 4 {
		<-done
	}
}
