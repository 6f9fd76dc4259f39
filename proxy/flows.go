package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"nexd/internal/logkey"
)

// drainQuiet is how long a flow may stay quiet while the engine ends.
const drainQuiet = time.Second

// flowKey is one conversation: who sends, and to which of our addresses.
type flowKey struct {
	from netip.AddrPort
	to   netip.Addr // invalid for sockets with one address
	sock packetSocket
}

// flowTable holds the flows of a group. Each rule of the group has its flows
// in a list as well, the one that was quiet for longest first.
type flowTable struct {
	g *group

	mu       sync.Mutex        // guards the fields below and the lists of the rules
	flows    map[flowKey]*flow // nil until the first
	draining bool
	empty    chan struct{} // while draining: closed when no flow is left
	closed   bool
}

// receive takes datagrams until the socket is closed; an error is any other end.
func (g *group) receive(sock packetSocket) error {
	failures := 0
	take := func(m mail) { g.flows.distribute(sock, m) }
	for {
		err := sock.receive(take)
		switch {
		case err == nil:
			failures = 0
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return err // its mesh address was taken away
		default:
			// An ICMP error for an earlier reply, or memory is short.
			if failures++; failures > 100 {
				return err
			}
			if failures > 10 {
				select {
				case <-g.e.life.Done():
				case <-time.After(time.Duration(failures) * time.Millisecond):
				}
			}
		}
	}
}

// distribute gives datagrams to their flows, in order.
func (t *flowTable) distribute(sock packetSocket, m mail) {
	for i := 0; i < len(m.data); {
		key := flowKey{m.from[i], m.addressee(i), sock}
		n := i + 1
		for n < len(m.data) && m.from[n] == key.from && m.addressee(n) == key.to {
			n++
		}
		t.deliver(key, m.data[i:n])
		i = n
	}
}

// deliver passes datagrams on, in a new flow if they are the first. It may not
// keep them.
func (t *flowTable) deliver(key flowKey, ps [][]byte) {
	t.mu.Lock()
	f := t.flows[key]
	if f != nil {
		f.rule.flows.MoveToBack(f.elem)
	}
	refuse := t.draining || t.closed
	t.mu.Unlock()
	if f != nil {
		if f.send(ps) {
			return
		}
		// It ended just now, and whoever ends it may not have come to this yet.
		t.forget(f)
	}
	if refuse {
		return
	}
	if f = t.create(key, len(ps)); f != nil && !f.send(ps) {
		f.rule.stats.droppedIn.Add(int64(len(ps)))
	}
}

// create makes the flow of a sender of so many datagrams, if a rule takes it and
// the table does; there is none with the key.
func (t *flowTable) create(key flowKey, packets int) *flow {
	g := t.g
	src := g.source(key.from.Addr())
	order := g.candidates(src.allowed)
	if len(order) == 0 {
		g.refusePackets(src, refusedAllow, (*g.rules.Load())[0], packets)
		return nil
	}
	r := order[0]
	why := r.acquire(src.addr)
	if why == refusedMax {
		t.evict(r)
		why = r.acquire(src.addr)
	}
	if why != "" {
		g.refusePackets(src, why, r, packets)
		return nil
	}
	f := newFlow(t, key, r)
	t.mu.Lock()
	if t.draining || t.closed {
		t.mu.Unlock()
		f.stop()
		r.release(src.addr)
		return nil
	}
	if t.flows == nil {
		t.flows = map[flowKey]*flow{}
	}
	t.flows[key] = f
	f.elem = r.flows.PushBack(f)
	t.mu.Unlock()
	r.total.Add(1)
	g.e.working.Add(1)
	go f.run()
	return f
}

func (g *group) refusePackets(src source, why refusal, r *rule, packets int) {
	for range packets {
		r.refused(why)
	}
	r.stats.droppedIn.Add(int64(packets))
	if g.e.refusals.Allow() {
		g.e.log.Debug("datagram refused", logkey.Rule, r.id.text,
			logkey.Addr, src.addr, logkey.Peer, src.name, logkey.Reason, string(why))
	}
}

// evict ends the rule's flow that was quiet for longest, and gives its place back.
func (t *flowTable) evict(r *rule) {
	t.mu.Lock()
	var oldest *flow
	if e := r.flows.Front(); e != nil {
		oldest = e.Value.(*flow)
	}
	t.mu.Unlock()
	if oldest != nil {
		r.stats.evicted.Add(1)
		oldest.end() // which does nothing if somebody else is about to
		t.forget(oldest)
	}
}

// touch marks a flow as the one last used.
func (t *flowTable) touch(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.key] == f {
		f.rule.flows.MoveToBack(f.elem)
	}
}

// forget takes an ended flow out and gives its place back; only the first call counts.
func (t *flowTable) forget(f *flow) {
	t.mu.Lock()
	if t.flows[f.key] != f {
		t.mu.Unlock()
		return
	}
	delete(t.flows, f.key)
	f.rule.flows.Remove(f.elem)
	if t.draining && len(t.flows) == 0 {
		close(t.empty)
	}
	t.mu.Unlock()
	f.rule.release(f.key.from.Addr().WithZone(""))
}

// all returns the present flows.
func (t *flowTable) all() []*flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	flows := make([]*flow, 0, len(t.flows))
	for _, f := range t.flows {
		flows = append(flows, f)
	}
	return flows
}

// drain takes no new flow and waits until the present ones have been quiet for
// drainQuiet, or life ends.
func (t *flowTable) drain(life context.Context) {
	t.mu.Lock()
	t.draining = true
	t.empty = make(chan struct{})
	if len(t.flows) == 0 {
		close(t.empty)
	}
	t.mu.Unlock()
	for _, f := range t.all() {
		f.hurry()
	}
	select {
	case <-t.empty:
	case <-life.Done():
	}
}

// close ends every flow.
func (t *flowTable) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	for _, f := range t.all() {
		f.end()
	}
}
