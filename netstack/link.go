package netstack

import (
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is gVisor's side of the device: a stack.LinkEndpoint for a wire that
// carries bare IP packets and has no link addresses.
type link struct {
	queue      *queue
	acks       *acks
	beside     *beside
	vicinity   vicinity
	mtus       mtus
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	own        atomic.Pointer[[]netip.Addr] // where packets may go to; replaced as a whole
	verify     atomic.Bool                  // gVisor verifies checksums of what is injected now
	counters   counters
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func newLink(mtu int, pinned bool) *link {
	l := &link{queue: newQueue(), beside: newBeside(), mtus: mtus{own: mtu, pinned: pinned}}
	l.own.Store(new([]netip.Addr))
	l.acks = newAcks(func(pkt *stack.PacketBuffer) { l.push(pkt) })
	return l
}

// WritePackets queues what gVisor sends. TCP data waits for room (see queue);
// everything else is dropped when the queue is full: replies such as a reset or
// an echo are made by the goroutine that delivers packets from WireGuard, which
// must not wait for the other direction.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	sent := 0
	for _, pkt := range list.AsSlice() {
		l.beside.leave(pkt)
		if !l.acks.hold(pkt) {
			if err := l.push(pkt); err != nil {
				return sent, err
			}
		}
		sent++
	}
	return sent, nil
}

func (l *link) push(pkt *stack.PacketBuffer) tcpip.Error {
	bulk := pkt.TransportProtocolNumber == header.TCPProtocolNumber && pkt.Data().Size() > 0
	switch l.queue.push(pkt, bulk) {
	case queuedInstead:
		l.counters.txFull.Add(1)
	case droppedFull:
		l.counters.txFull.Add(1)
		return &tcpip.ErrNoBufferSpace{}
	case droppedClosed:
		l.counters.txClosed.Add(1)
		return &tcpip.ErrClosedForSend{}
	}
	return nil
}

// prepare looks up what a part needs of the link.
func (l *link) prepare(p *part) {
	if p.shape.cutting == segments && header.TCP(p.pkt.TransportHeader().Slice()).Flags()&header.TCPFlagSyn != 0 {
		p.mtu, _ = l.mtus.get(destination(p.pkt.NetworkHeader().Slice()))
	}
}

// inject gives one packet to gVisor, which keeps it.
func (l *link) inject(protocol tcpip.NetworkProtocolNumber, view *buffer.View) {
	dispatcher := l.dispatcher.Load()
	if dispatcher == nil {
		view.Release()
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
	(*dispatcher).DeliverNetworkPacket(protocol, pkt)
	pkt.DecRef()
}

// injectUnclear gives gVisor a packet that may be a fragment. Those of a datagram
// are found by a number that comes again, after 65,536 datagrams over IPv4: only
// the checksum tells whether what was put together is one datagram.
func (l *link) injectUnclear(protocol tcpip.NetworkProtocolNumber, view *buffer.View) {
	l.verify.Store(true)
	l.inject(protocol, view)
	l.verify.Store(false)
}

func (l *link) isOwn(to netip.Addr) bool {
	for _, addr := range *l.own.Load() {
		if addr == to {
			return true
		}
	}
	return false
}

// nicMTU is what gVisor is told: the largest packets there are (an IPv6 payload of
// 65535 bytes), so that all cutting happens here, where the destination's MTU is
// known. The segments of TCP follow from the MTU of gVisor's routes and from the
// MSS in SYNs.
const nicMTU = header.IPv6MinimumSize + 65535

// MTU is no limit: see nicMTU.
func (*link) MTU() uint32 { return nicMTU }

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
// as verified; gVisor asks for each packet. Those of TCP and UDP packets that leave
// are made as they are copied.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	if l.verify.Load() {
		return stack.CapabilityTXChecksumOffload
	}
	return stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
}

// gsoMaxSize makes gVisor's TCP send up to 58,960 bytes of data in one packet: 44
// segments of 1,340 (an MTU of 1,420 over IPv4), and in any case no more than
// one Read takes (readBudget). gVisor subtracts 161 for headers.
const gsoMaxSize = 44*1340 + 161

// GSOMaxSize is the size of the largest TCP segment that the link cuts.
func (*link) GSOMaxSize() uint32 { return gsoMaxSize }

// SupportedGSO says that the link cuts TCP segments.
func (*link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// Close is called when the stack removes the link.
func (l *link) Close() { l.close() }

func (l *link) close() {
	l.acks.close()
	l.counters.txClosed.Add(uint64(l.queue.close()))
}

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
