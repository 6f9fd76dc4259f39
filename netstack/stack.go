package netstack

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"nexd/internal/logkey"
)

const (
	nicID = 1

	// Buffers of a TCP connection in bytes. They grow with the connection's
	// bandwidth and delay, from the default to the maximum; see also nearby.
	tcpBufferMin      = 4 << 10
	tcpSendDefault    = 1 << 20
	tcpReceiveDefault = 1 << 20
	tcpBufferMax      = 4 << 20

	// minRTO is how long a segment is waited for at least before it is sent again;
	// gVisor and Linux start at 200 ms. Where the loss leaves too few segments
	// behind it for SACK, each one costs this time. It must stay well above the
	// 40 ms by which Linux delays acknowledgements, and above the pauses of a busy
	// process: at 50 ms a fast transfer without loss sent a tenth of its segments twice.
	// Longer delays of a path are measured, and waited for.
	minRTO = 100 * time.Millisecond

	// timeWait is how long an ended connection is remembered (RFC 9293 section
	// 3.6.1 asks for twice the time a packet may live). It costs 7 KB, and packets
	// do not live for minutes on a mesh; timestamps tell old ones apart as well.
	timeWait = 10 * time.Second
)

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// gVisor writes to a logger of its own, on stderr unless told otherwise, and
// packets from peers can make it do so. What is worth telling is in Stats.
var quiet = sync.OnceFunc(func() {
	log.SetTarget(&log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
})

// Stack is a TCP/IP stack behind a device. All methods may be called from many
// goroutines.
type Stack struct {
	log    *slog.Logger
	gvisor *stack.Stack
	link   *link
	device *device
	closed atomic.Bool

	listeners listeners

	mu        sync.Mutex // guards the fields below, and changes of addresses
	addresses []netip.Addr
	sockets   map[*PacketConn]struct{} // to be told when their address goes

	closeOnce sync.Once
}

// New makes a stack without addresses. gVisor's TCP starts one goroutine per
// CPU; Close ends them, and leaves none.
func New(config Config) (*Stack, error) {
	pinned := config.MTU != 0
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	quiet()
	s := &Stack{log: config.Log, link: newLink(config.MTU, pinned), sockets: map[*PacketConn]struct{}{}}
	s.device = newDevice(s.link)
	s.listeners.byPort = map[uint16]*listener{}
	s.gvisor = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			// The zero options: no router advertisements, no address made up by
			// itself, no group membership, no duplicate address detection (the
			// addresses are assigned and unique).
			ipv6.NewProtocolWithOptions(ipv6.Options{}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal: true, // dialling one's own address stays inside
	})
	s.gvisor.SetTransportProtocolHandler(tcp.ProtocolNumber, s.knock)
	if err := s.configure(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) configure() error {
	if err := s.configureTCP(); err != nil {
		return fmt.Errorf("configure TCP: %w", errno(err))
	}
	if err := s.gvisor.SetPortRange(firstDialledPort, math.MaxUint16); err != nil {
		return fmt.Errorf("set the ports dialled from: %w", errno(err))
	}
	if err := s.gvisor.CreateNIC(nicID, s.link); err != nil {
		return fmt.Errorf("create the stack's interface: %w", errno(err))
	}
	// The largest segment of TCP; SetPathMTU says why it is not the stack's own MTU.
	mtu := uint32(s.link.mtus.most())
	s.gvisor.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID, MTU: mtu},
		{Destination: header.IPv6EmptySubnet, NIC: nicID, MTU: mtu},
	})
	return nil
}

// configureTCP states what the data path was measured with.
func (s *Stack) configureTCP() tcpip.Error {
	set := func(option tcpip.SettableTransportProtocolOption) tcpip.Error {
		return s.gvisor.SetTransportProtocolOption(tcp.ProtocolNumber, option)
	}
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	// Zero: loss is found by SACK alone (RFC 6675). gVisor's detection by time
	// (RACK) is better at single losses, and after an outage sometimes sends one
	// segment for each timeout, for minutes.
	recovery := tcpip.TCPRecovery(0)
	minRTO := tcpip.TCPMinRTOOption(minRTO)
	cubic := tcpip.CongestionControlOption("cubic")
	// A proxy's clients come back from the same few addresses: a connection in
	// TIME_WAIT may be followed by a new one (RFC 6191).
	reuse := tcpip.TCPTimeWaitReuseOption(tcpip.TCPTimeWaitReuseGlobal)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcpBufferMin, Default: tcpSendDefault, Max: tcpBufferMax}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcpBufferMin, Default: tcpReceiveDefault, Max: tcpBufferMax}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &recovery, &minRTO, &cubic, &reuse, &wait, &send, &receive} {
		if err := set(option); err != nil {
			return err
		}
	}
	return nil
}

// Device is what WireGuard reads and writes. Closing it, as wireguard-go's
// device does when it is closed, cuts the stack off but leaves it usable for
// connections to its own addresses.
func (s *Stack) Device() tun.Device { return s.device }

// Stats counts packets.
func (s *Stack) Stats() Stats { return s.link.counters.snapshot() }

// Addresses are the stack's own addresses.
func (s *Stack) Addresses() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.addresses)
}

// SetAddresses replaces the stack's own addresses. It may be called at any time:
// what stands on addresses that stay is not touched. Connections on an address
// that goes are aborted, its datagram sockets fail for good (see PacketConn), and
// its listeners stay, silent until it comes back. A wrong address changes nothing.
func (s *Stack) SetAddresses(addresses []netip.Addr) error {
	want := make([]netip.Addr, 0, len(addresses))
	for _, addr := range addresses {
		addr = addr.Unmap().WithZone("")
		if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr == broadcast4 {
			return fmt.Errorf("set mesh address %s: not a unicast address", addr)
		}
		if !slices.Contains(want, addr) {
			want = append(want, addr)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return net.ErrClosed
	}
	var gone []netip.Addr
	for _, addr := range s.addresses {
		if !slices.Contains(want, addr) {
			gone = append(gone, addr)
		}
	}
	// Packets to addresses that go stop here first; those to new ones are let in
	// once the stack can answer them.
	kept := slices.DeleteFunc(slices.Clone(s.addresses), func(a netip.Addr) bool { return slices.Contains(gone, a) })
	s.link.own.Store(&kept)
	s.cutSocketsLocked(gone)
	s.abortOn(gone) // while the address is there to send a RST from
	for _, addr := range gone {
		if err := s.gvisor.RemoveAddress(nicID, toAddress(addr)); err != nil {
			return fmt.Errorf("remove mesh address %s: %w", addr, errno(err))
		}
	}
	s.addresses = kept
	s.abortOn(gone) // what was made meanwhile
	for _, addr := range want {
		if slices.Contains(s.addresses, addr) {
			continue
		}
		if err := s.addAddress(addr); err != nil {
			return fmt.Errorf("add mesh address %s: %w", addr, errno(err))
		}
		s.addresses = append(slices.Clone(s.addresses), addr)
		own := s.addresses
		s.link.own.Store(&own)
	}
	s.log.Debug("mesh addresses set", logkey.Addr, fmt.Sprint(s.addresses))
	return nil
}

func (s *Stack) addAddress(addr netip.Addr) tcpip.Error {
	protocol := header.IPv4ProtocolNumber
	if addr.Is6() {
		protocol = header.IPv6ProtocolNumber
	}
	return s.gvisor.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          protocol,
		AddressWithPrefix: toAddress(addr).WithPrefix(),
	}, stack.AddressProperties{})
}

// abortOn ends the TCP connections on the given local addresses.
func (s *Stack) abortOn(gone []netip.Addr) {
	if len(gone) == 0 {
		return
	}
	for _, registered := range s.gvisor.RegisteredEndpoints() {
		endpoint, ok := registered.(*tcp.Endpoint)
		if !ok || endpoint.EndpointState() == tcp.StateListen {
			continue
		}
		local, err := endpoint.GetLocalAddress()
		if err == nil && slices.Contains(gone, fromAddress(local.Addr)) {
			endpoint.Abort()
		}
	}
}

// Close aborts every connection, closes every listener and the device, and
// waits for the stack's goroutines. Blocked calls return net.ErrClosed. It is
// idempotent.
func (s *Stack) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed.Store(true)
		s.mu.Unlock()
		s.gvisor.Close()
		s.listeners.shut()
		s.device.Close()
		// gVisor's own Wait would also wait for endpoints made meanwhile, for as
		// long as they live; only the protocols have goroutines.
		s.gvisor.TransportProtocolInstance(tcp.ProtocolNumber).Wait()
		s.gvisor.RemoveNIC(nicID)
	})
	return nil
}

// checkOpen is the first step of every call that makes something new.
func (s *Stack) checkOpen() error {
	if s.closed.Load() {
		return net.ErrClosed
	}
	return nil
}
