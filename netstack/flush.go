package netstack

import (
	"context"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// flushStep is how often Flush looks. gVisor has no event for an endpoint whose
// owner has closed it, and Flush is called once in a stack's life.
const flushStep = 5 * time.Millisecond

// Flush waits until every closed TCP connection has had its data and its FIN
// acknowledged, and every packet made so far has been taken by WireGuard, or
// until ctx ends or the device is closed. It comes between the closing of the
// streams and the closing of the tunnel. Of connections that are still held it
// waits for a FIN that was sent and for nothing else, and never for the peer's.
//
// That a packet has been taken does not say that it has been sent: WireGuard
// still has to seal it.
func (s *Stack) Flush(ctx context.Context) {
	tick := time.NewTicker(flushStep)
	defer tick.Stop()
	for !s.flushed() {
		select {
		case <-tick.C:
		case <-s.link.queue.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *Stack) flushed() bool {
	// Endpoints first: they put packets into the queue.
	if s.closing() > 0 {
		return false
	}
	s.link.acks.flushAll()
	return s.link.queue.empty()
}

// closing counts connections whose FIN is not acknowledged yet.
func (s *Stack) closing() int {
	var ownerless map[tcpip.Endpoint]struct{}
	n := 0
	for _, registered := range s.gvisor.RegisteredEndpoints() {
		endpoint, ok := registered.(*tcp.Endpoint)
		if !ok {
			continue
		}
		switch endpoint.EndpointState() {
		case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
			n++
		case tcp.StateEstablished, tcp.StateCloseWait:
			// The FIN of a closed connection may stand behind data that does not
			// fit into the peer's window: the state changes when it is sent.
			if ownerless == nil {
				ownerless = ownerlessEndpoints()
			}
			if _, closed := ownerless[endpoint]; closed {
				n++
			}
		}
	}
	return n
}

// ownerlessEndpoints are those closed by their owner and not done yet.
func ownerlessEndpoints() map[tcpip.Endpoint]struct{} {
	endpoints := tcpip.GetDanglingEndpoints()
	set := make(map[tcpip.Endpoint]struct{}, len(endpoints))
	for _, e := range endpoints {
		set[e] = struct{}{}
	}
	return set
}
