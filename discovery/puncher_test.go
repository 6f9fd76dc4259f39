package discovery

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"nexd/key"
	"nexd/test/simnet"
)

// puncher is a node that may guess ports, with what its bind would do.
type puncher struct {
	*simNode

	mu       sync.Mutex // guards the fields below
	holes    map[netip.AddrPort]*simnet.Socket
	adopted  int
	released int
	refuse   bool
	lose     int // answers to proposals that get lost on their way
	limit    int // sockets that can be opened; 0: any number
	opened   int
	most     int // open at a time
}

// punching puts a node with the option on at a site of its own.
func (w *world) punching(ip string, nat simnet.NAT) *puncher {
	p := &puncher{holes: make(map[netip.AddrPort]*simnet.Socket)}
	p.simNode = w.at(ip, nat)
	p.stop()
	<-p.done
	p.simNode.punch = p
	p.start()
	return p
}

func (p *puncher) install(a *Agent) {
	signal := a.config.Signal
	a.config.Signal = func(ctx context.Context, to key.Public, sealed []byte) error {
		if p.loses(to, sealed) {
			return nil
		}
		return signal(ctx, to, sealed)
	}
	a.hard.open = func() (hole, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.limit > 0 && p.host.Sockets() >= p.limit {
			return nil, syscall.EMFILE
		}
		p.opened++
		s, err := p.host.Open()
		p.most = max(p.most, p.host.Sockets())
		return s, err
	}
	a.hard.adopt = func(h hole, remote netip.AddrPort) error {
		s := h.(*simnet.Socket)
		p.mu.Lock()
		if p.refuse {
			p.mu.Unlock()
			s.Close()
			return errRefused
		}
		p.adopted++
		p.holes[remote] = s
		p.mu.Unlock()
		go func() {
			b := make([]byte, 1500)
			for {
				n, from, err := s.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				if from == remote {
					p.deliver(slices.Clone(b[:n]), from)
				}
			}
		}()
		return nil
	}
	a.hard.release = func(remote netip.AddrPort) {
		p.mu.Lock()
		s := p.holes[remote]
		delete(p.holes, remote)
		p.released++
		p.mu.Unlock()
		if s != nil {
			s.Close()
		}
	}
}

// write sends as bind does: by the socket that has the hole.
func (p *puncher) write(b []byte, to netip.AddrPort) error {
	p.mu.Lock()
	s := p.holes[to]
	p.mu.Unlock()
	if s != nil {
		_, err := s.WriteToUDPAddrPort(b, to)
		return err
	}
	return p.host.Send(b, to)
}

// loses reports whether an offer of ours gets lost.
func (p *puncher) loses(to key.Public, sealed []byte) bool {
	s, err := newSecrets(p.private, p.pub, to)
	if err != nil {
		return false
	}
	s.sealIn = s.sealOut // to read our own
	plain, err := s.open(sealed)
	o, err2 := parseOffer(plain)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || err2 != nil || !o.HardRound || o.WantReply || p.lose == 0 {
		return false
	}
	p.lose--
	return true
}

// close closes what was adopted, as bind does in the end.
func (p *puncher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.holes {
		s.Close()
	}
}

func (p *puncher) count() (adopted, released, opened, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.adopted, p.released, p.opened, p.most
}

// talkOn has both talk until the test says stop.
func talkOn(a, b *simNode) (stop func()) {
	var done sync.WaitGroup
	var over atomic.Bool
	done.Go(func() {
		for !over.Load() {
			converse(a, b, time.Second)
		}
	})
	return func() { over.Store(true); done.Wait() }
}

// becomesDirect waits for a direct path both ways; 0: there was none in time.
func becomesDirect(a, b *simNode, limit time.Duration) time.Duration {
	for began := time.Now(); time.Since(began) < limit; time.Sleep(20 * time.Millisecond) {
		if a.agent.Peer(b.pub).State == Direct && b.agent.Peer(a.pub).State == Direct {
			return time.Since(began)
		}
	}
	return 0
}

var errRefused = errors.New("refused")
