package netstack

import (
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is gVisor's side of the device: a stack.LinkEndpoint for a wire that
// carries bare IP packets and has no link addresses.
type link struct {
	queue      *queue
	mtus       mtus
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	own        atomic.Pointer[[]netip.Addr] // where packets may go to; replaced as a whole
	counters   counters
}

var _ stack.LinkEndpoint = (*link)(nil)

func newLink(mtu int, pinned bool) *link {
	l := &link{queue: newQueue(), mtus: mtus{own: mtu, pinned: pinned}}
	l.own.Store(new([]netip.Addr))
	return l
}

// WritePackets queues what gVisor sends. TCP data waits for room (see queue);
// everything else is dropped when the queue is full: replies such as a reset or
// an echo are made by the goroutine that delivers packets from WireGuard, which
// must not wait for the other direction.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	sent := 0
	for _, pkt := range list.AsSlice() {
		bulk := pkt.TransportProtocolNumber == header.TCPProtocolNumber && pkt.Data().Size() > 0
		switch l.queue.push(pkt, bulk) {
		case queued:
			sent++
		case droppedFull:
			l.counters.txFull.Add(1)
			return sent, &tcpip.ErrNoBufferSpace{}
		case droppedClosed:
			l.counters.txClosed.Add(1)
			return sent, &tcpip.ErrClosedForSend{}
		}
	}
	return sent, nil
}

// inject gives one packet from WireGuard to gVisor. packet is copied.
func (l *link) inject(packet []byte) {
	protocol, to, ok := parse(packet)
	if !ok {
		l.counters.rxMalformed.Add(1)
		return
	}
	if !l.isOwn(to) {
		l.counters.rxForeign.Add(1)
		return
	}
	dispatcher := l.dispatcher.Load()
	if dispatcher == nil {
		return
	}
	l.counters.rxPackets.Add(1)
	l.counters.rxBytes.Add(uint64(len(packet)))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: bufferOf(packet)})
	(*dispatcher).DeliverNetworkPacket(protocol, pkt)
	pkt.DecRef()
}

func (l *link) isOwn(to netip.Addr) bool {
	for _, addr := range *l.own.Load() {
		if addr == to {
			return true
		}
	}
	return false
}

// MTU is the largest IP packet gVisor sends.
func (l *link) MTU() uint32 { return uint32(l.mtus.own) }

// SetMTU is never called: see SetPathMTU.
func (*link) SetMTU(uint32) {}

// Attach is called with the stack's entry, and with nil when the link is removed.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached reports whether packets can be injected.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// Capabilities: see the package comment for why received checksums are taken
// as verified.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// Close is called when the stack removes the link.
func (l *link) Close() { l.close() }

func (l *link) close() { l.counters.txClosed.Add(uint64(l.queue.close())) }

// The rest of stack.LinkEndpoint describes a wire without link-layer headers,
// addresses and goroutines.

func (*link) MaxHeaderLength() uint16                 { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress          { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)        {}
func (*link) Wait()                                   {}
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (*link) AddHeader(*stack.PacketBuffer)           {}
func (*link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (*link) SetOnCloseAction(func())                 {}
