package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"nexd/rules"
)

// keepAlive finds a dead peer within two minutes, on both legs of a connection.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

// udpBuffer is asked for as receive buffer of host datagram sockets; the kernel
// gives less where its limit is lower.
const udpBuffer = 1 << 20

// hostSide is this host's own network.
type hostSide struct {
	dialer   net.Dialer
	listener net.ListenConfig
}

func newHostSide() *hostSide {
	return &hostSide{
		dialer:   net.Dialer{KeepAliveConfig: keepAlive},
		listener: net.ListenConfig{KeepAliveConfig: keepAlive},
	}
}

var (
	loopback4    = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6    = netip.IPv6Loopback()
	unspecified4 = netip.IPv4Unspecified()
	unspecified6 = netip.IPv6Unspecified()
)

func (h *hostSide) points(key rules.ListenKey) ([]point, error) {
	switch {
	case !key.Bind.IsValid():
		return []point{{loopback4, true}, {loopback6, true}}, nil
	case key.Bind == unspecified6: // every address of both families
		return []point{{unspecified4, true}, {unspecified6, true}}, nil
	}
	return []point{{addr: key.Bind}}, nil
}

// family names the network with its family, so that [::] never takes IPv4 too.
func family(network string, a netip.Addr) string {
	if a.Is4() {
		return network + "4"
	}
	return network + "6"
}

func (h *hostSide) listenStream(at netip.AddrPort) (net.Listener, error) {
	return h.listener.Listen(context.Background(), family("tcp", at.Addr()), at.String())
}

func (h *hostSide) listenPacket(at netip.AddrPort) (packetSocket, error) {
	pc, err := h.listener.ListenPacket(context.Background(), family("udp", at.Addr()), at.String())
	if err != nil {
		return nil, err
	}
	udp := pc.(*net.UDPConn)
	_ = udp.SetReadBuffer(udpBuffer)
	if at.Addr().IsUnspecified() {
		return newWildcard(udp, at.Addr())
	}
	return newHostSocket(udp), nil
}

func (h *hostSide) resolve(ctx context.Context, t rules.Target) ([]netip.Addr, error) {
	switch {
	case t.Unix != "":
		return nil, nil
	case t.Addr.IsValid():
		return []netip.Addr{t.Addr}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", t.Host)
	var system *net.DNSError
	if errors.As(err, &system) {
		err = inWords(system)
	}
	return addrs, err
}

// dialStream resolves a name with the system's resolver each time and races
// its addresses (RFC 8305), which net.Dialer does.
func (h *hostSide) dialStream(ctx context.Context, t rules.Target) (net.Conn, error) {
	var (
		c   net.Conn
		err error
	)
	switch {
	case t.Unix != "":
		c, err = h.dialer.DialContext(ctx, "unix", t.Unix)
	case t.Addr.IsValid():
		c, err = h.dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(t.Addr, t.Port))
	default:
		c, err = h.dialer.DialContext(ctx, "tcp", t.String())
	}
	if err != nil {
		return nil, dialError(t.String(), err)
	}
	return c, nil
}

func (h *hostSide) dialPacket(ctx context.Context, t rules.Target, skip int) (net.Conn, error) {
	addrs, err := h.resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(addrs[skip%len(addrs)].Unmap(), t.Port)
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, dialError(t.String(), err)
	}
	_ = c.SetReadBuffer(udpBuffer / 4)
	return c, nil
}
