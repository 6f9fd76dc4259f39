//go:build linux

package lab

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Pair is two nodes with a plain UDP socket each, which know each other's host
// and server-reflexive address: the least that punches holes, to see what the
// network allows.
type Pair struct {
	ends [2]*end
}

// end is one side of a Pair.
type end struct {
	node *Node
	conn *net.UDPConn
	// mapped is what the STUN server saw; invalid: no answer.
	mapped netip.AddrPort
}

// NewPair opens the sockets and asks the STUN server; Close ends it.
func NewPair(a, b *Node) (*Pair, error) {
	p := &Pair{}
	for i, n := range []*Node{a, b} {
		c, err := n.ListenUDP("udp4", 0)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.ends[i] = &end{node: n, conn: c}
	}
	p.Learn()
	return p, nil
}

// Learn asks the STUN server again.
func (p *Pair) Learn() {
	var wg sync.WaitGroup
	for _, e := range p.ends {
		wg.Go(func() { e.mapped, _ = askSTUN(e.conn, netip.AddrPortFrom(pubAddrs[0], stunPorts[0]), 0) })
	}
	wg.Wait()
}

// Close closes the sockets.
func (p *Pair) Close() {
	for _, e := range p.ends {
		if e != nil {
			e.conn.Close()
		}
	}
}

// Mapped returns what the STUN server saw of the two.
func (p *Pair) Mapped() [2]netip.AddrPort {
	return [2]netip.AddrPort{p.ends[0].mapped, p.ends[1].mapped}
}

// Outcome is what a round of punching came to.
type Outcome struct {
	// Reached is, for each side, the address that answered it first; invalid: none.
	Reached [2]netip.AddrPort
	// After is how long the round took until both were answered.
	After time.Duration
}

// Direct reports whether packets went both ways for both.
func (o Outcome) Direct() bool { return o.Reached[0].IsValid() && o.Reached[1].IsValid() }

// String returns the outcome in one line.
func (o Outcome) String() string {
	switch {
	case o.Direct():
		return fmt.Sprintf("direct after %s: %s, %s", o.After.Round(time.Millisecond), o.Reached[0], o.Reached[1])
	case o.Reached[0].IsValid() || o.Reached[1].IsValid():
		return fmt.Sprintf("half: %s, %s", o.Reached[0], o.Reached[1])
	}
	return "none"
}

// Punch lets both sides probe each other's addresses, and where probes come
// from, for as long as limit or until both are answered. The sides start late
// by so much; before that they neither send nor answer.
func (p *Pair) Punch(limit time.Duration, late [2]time.Duration) Outcome {
	var (
		o     Outcome
		token [8]byte
		wg    sync.WaitGroup
		both  sync.WaitGroup // until answered
		done  = make(chan struct{})
	)
	rand.Read(token[:])
	both.Add(2)
	go func() {
		both.Wait()
		close(done)
	}()
	start := time.Now().Add(20 * time.Millisecond) // both are waiting by then
	for i, e := range p.ends {
		wg.Go(func() {
			answered := sync.OnceFunc(both.Done)
			defer answered()
			o.Reached[i] = e.punch(p.ends[1-i], token, start.Add(late[i]), start.Add(limit), answered, done)
		})
	}
	wg.Wait()
	o.After = time.Since(start)
	return o
}

// Kinds of probe packets: a probe is a kind, the round's token and the number
// of the target as its sender counts them.
const (
	probePing = 'p'
	probePong = 'q'

	probeInterval = 50 * time.Millisecond
)

// punch is one side of a round; it returns the first address that answered and
// goes on answering until done.
func (e *end) punch(peer *end, token [8]byte, start, stop time.Time, answered func(), done <-chan struct{}) (reached netip.AddrPort) {
	targets := []netip.AddrPort{netip.AddrPortFrom(peer.node.V4, uint16(peer.conn.LocalAddr().(*net.UDPAddr).Port))}
	if peer.mapped.IsValid() {
		targets = append(targets, peer.mapped)
	}
	timer := time.NewTimer(time.Until(start))
	defer timer.Stop()
	<-timer.C

	packet := make([]byte, 2048)
	for next := time.Now(); time.Now().Before(stop); {
		select {
		case <-done:
			return reached
		default:
		}
		if !time.Now().Before(next) {
			next = next.Add(probeInterval)
			for i, to := range targets {
				e.conn.WriteToUDPAddrPort(append(append([]byte{probePing}, token[:]...), byte(i)), to)
			}
		}
		e.conn.SetReadDeadline(next)
		n, from, err := e.conn.ReadFromUDPAddrPort(packet)
		if err != nil || n != 10 || !bytes.Equal(packet[1:9], token[:]) {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		switch packet[0] {
		case probePing:
			packet[0] = probePong
			e.conn.WriteToUDPAddrPort(packet[:n], from)
			targets = appendNew(targets, from)
		case probePong:
			if i := int(packet[9]); !reached.IsValid() && i < len(targets) {
				reached = targets[i]
				answered()
			}
		}
	}
	return reached
}

// appendNew adds an address to a list of at most 16 without doubles.
func appendNew(list []netip.AddrPort, a netip.AddrPort) []netip.AddrPort {
	for _, x := range list {
		if x == a {
			return list
		}
	}
	if len(list) == 16 {
		return list
	}
	return append(list, a)
}
