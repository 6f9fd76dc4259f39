//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"nexd/bind"
	"nexd/key"
	"nexd/netstack"
	"nexd/test/need"
	"nexd/test/netns"
	"nexd/tunnel"
)

// Addresses inside the tunnel.
var (
	ourMesh   = []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd64::1")}
	stockMesh = []netip.Addr{netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("fd64::2")}
)

// plane is the data plane of a member as the daemon has it, without discovery: its
// peer's path is given.
type plane struct {
	*netstack.Stack
	tunnel *tunnel.Tunnel
	bind   *bind.Bind
	key    key.Public
}

// startPlane opens a data plane whose socket is in the host's namespace.
func startPlane(t *testing.T, host *netns.Host, mtu int, addresses ...netip.Addr) *plane {
	t.Helper()
	private := key.NewPrivate()
	p := &plane{key: private.Public()}
	var err error
	if p.Stack, err = netstack.New(netstack.Config{MTU: mtu}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stack.Close() })
	if err := p.SetAddresses(addresses); err != nil {
		t.Fatal(err)
	}
	p.bind = bind.New(bind.Config{OnHeard: func(peer key.Public) { p.tunnel.Activate(peer) }})
	p.tunnel, err = tunnel.New(tunnel.Config{
		Private: private, Device: p.Device(), Bind: p.bind,
		OnDeactivate: func(peer key.Public) { p.bind.Forget(peer) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.tunnel.Close() })
	if _, err := netns.Inside(host, func() (struct{}, error) { return struct{}{}, p.tunnel.Up() }); err != nil {
		t.Fatal(err)
	}
	return p
}

// add has the plane know a peer and its path.
func (p *plane) add(peer key.Public, path netip.AddrPort, addresses ...netip.Addr) {
	p.tunnel.SetPeers([]tunnel.Peer{{Key: peer, Addresses: addresses}})
	p.bind.SetRoute(peer, bind.Route{Path: path})
}

// forget has the plane drop its peer with its session.
func (p *plane) forget() { p.tunnel.SetPeers(nil) }

// against is our data plane and a stock peer, each in a namespace of its own, with a
// bridge between them.
type against struct {
	ours, theirs *netns.Host
	plane        *plane
	stock        *stock
	here, there  netip.AddrPort // outside of the tunnel
}

// newAgainst starts both, which do not know each other yet.
func newAgainst(t *testing.T, ourMTU, stockMTU int, v6Outside bool) *against {
	t.Helper()
	need.Programs(t, "wireguard-go", "wg", "ethtool", "tcpdump", "tshark")
	need.IPv6(t)
	hosts := netns.NewSet(t, "nexdwg").Hosts("ours", "hub", "theirs")
	hub := hosts[1]
	a := &against{ours: hosts[0], theirs: hosts[2]}
	hub.IP("link add br0 type bridge", "link set br0 up")
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	if v6Outside {
		here, there = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	}
	for i, h := range []*netns.Host{a.ours, a.theirs} {
		hub.IP(fmt.Sprintf("link add p%d type veth peer name eth0 netns %s", i, h.NS),
			fmt.Sprintf("link set p%d master br0 up", i))
		h.IP(fmt.Sprintf("addr add 192.0.2.%d/24 dev eth0", i+1),
			fmt.Sprintf("addr add 2001:db8::%d/64 dev eth0 nodad", i+1),
			"link set eth0 up")
	}
	// Up to here our batches stay whole and their checksums unfinished, as on the way
	// to a network card that does the rest; the last cable is one without such a card.
	hub.Run("ethtool", "-K", "p1", "tx", "off", "gso", "off", "tso", "off")
	hub.Carrier("p0", "p1")
	a.ours.Carrier("eth0")
	a.theirs.Carrier("eth0")

	a.stock = startStock(t, a.theirs, key.NewPrivate(), stockMTU, stockMesh...)
	a.plane = startPlane(t, a.ours, ourMTU, ourMesh...)
	a.here, a.there = netip.AddrPortFrom(here, a.plane.bind.Port()), netip.AddrPortFrom(there, stockPort)
	return a
}

// side is a TCP/IP of the two: ours, or the kernel behind the stock peer's device.
type side struct {
	name      string
	addr      []netip.Addr
	dial      func(network string, to netip.AddrPort) (net.Conn, error)
	listen    func(at netip.AddrPort) (net.Listener, error)
	listenUDP func(at netip.AddrPort) (net.PacketConn, error)
}

func (a *against) sides(t *testing.T) (ours, theirs side) {
	ours = side{
		name: "nexd", addr: ourMesh,
		dial: func(network string, to netip.AddrPort) (net.Conn, error) {
			if network == "udp" {
				return a.plane.DialUDP(to)
			}
			c, err := a.plane.DialTCP(t.Context(), to)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		listen: a.plane.ListenTCP, listenUDP: a.plane.ListenUDP,
	}
	theirs = side{
		name: "stock", addr: stockMesh,
		dial: func(network string, to netip.AddrPort) (net.Conn, error) {
			return netns.Inside(a.theirs, func() (net.Conn, error) { return net.DialTimeout(network, to.String(), 10*time.Second) })
		},
		listen: func(at netip.AddrPort) (net.Listener, error) {
			return netns.Inside(a.theirs, func() (net.Listener, error) { return net.Listen("tcp", at.String()) })
		},
		listenUDP: func(at netip.AddrPort) (net.PacketConn, error) {
			return netns.Inside(a.theirs, func() (net.PacketConn, error) { return net.ListenPacket("udp", at.String()) })
		},
	}
	return ours, theirs
}

// echoes numbers the echo requests of pingFromStock.
var echoes atomic.Uint32

// pingFromStock sends an echo request of some size from the stock peer's host and
// awaits the answer; the request is repeated.
func (a *against) pingFromStock(to netip.Addr, size int) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	c, err := netns.Inside(a.theirs, func() (net.PacketConn, error) { return net.ListenPacket(network, "") })
	if err != nil {
		return err
	}
	defer c.Close()
	msg := make([]byte, 8+size)
	msg[0] = request
	binary.BigEndian.PutUint32(msg[4:], echoes.Add(1)) // identifier and sequence number
	for i := range size {
		msg[8+i] = byte(i)
	}
	if to.Is4() { // the kernel does it for ICMPv6
		binary.BigEndian.PutUint16(msg[2:], checksum(msg))
	}
	b := make([]byte, 1<<16)
	for range 5 {
		if _, err = c.WriteTo(msg, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			var n int
			if n, _, err = c.ReadFrom(b); err != nil {
				break
			}
			if n < 8 || b[0] != reply || !bytes.Equal(b[4:8], msg[4:8]) {
				continue
			}
			if !bytes.Equal(b[4:n], msg[4:]) {
				return fmt.Errorf("%d bytes came back for %d, or others", n, len(msg))
			}
			return nil
		}
	}
	return fmt.Errorf("no answer: %w", err)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i, x := range b {
		sum += uint32(x) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// record begins to write down what ours emits: the packets that come out of the
// stock peer's device, and the datagrams that bring them.
func (a *against) record(t *testing.T) (inner, outer *recording) {
	t.Helper()
	inner = record(t, a.theirs, a.stock.dev, 0, fmt.Sprintf("src host %s or src host %s", ourMesh[0], ourMesh[1]))
	outer = record(t, a.theirs, "eth0", 14, fmt.Sprintf("src host %s and udp", a.here.Addr()))
	return inner, outer
}
