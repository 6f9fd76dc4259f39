//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"nexd/test/netns"
)

// Node is a host at a site.
type Node struct {
	*netns.Host
	// V4 and V6 are its present addresses; V6 is invalid where the site has none.
	V4, V6 netip.Addr

	site *Site
}

// Site is where the node is now.
func (n *Node) Site() *Site { return n.site }

// ListenUDP opens a socket of the test in the node; the caller closes it.
func (n *Node) ListenUDP(network string, port uint16) (*net.UDPConn, error) {
	return netns.Inside(n.Host, func() (*net.UDPConn, error) {
		return net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
	})
}

// attach plugs a node without a cable into the site's LAN.
func (s *Site) attach(n *Node) {
	s.lab.t.Helper()
	port := "l-" + n.Name
	s.router.IP(
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, n.NS),
		fmt.Sprintf("link set %s master br0 up", port),
	)
	n.IP("link set eth0 up")
	s.router.Carrier(port, "br0")
	n.Carrier("eth0")
	n.site = s
	s.nodes = append(s.nodes, n)
	s.address(n)
}

// address gives a node the site's next addresses.
func (s *Site) address(n *Node) {
	s.lab.t.Helper()
	if s.nextHost > 250 {
		s.nextHost = 10
	}
	host := s.nextHost
	s.nextHost++
	n.V4, n.V6 = hostOf(s.lan, host), netip.Addr{}
	lines := []string{
		fmt.Sprintf("addr add %s/24 dev eth0", n.V4),
		fmt.Sprintf("route replace default via %s", hostOf(s.lan, 1)),
	}
	if s.options.V6 != NoV6 {
		n.V6 = s.v6(1, host)
		lines = append(lines,
			fmt.Sprintf("addr add %s/64 dev eth0 nodad", n.V6),
			fmt.Sprintf("route replace default via %s", s.v6(1, 1)))
	}
	n.IP(lines...)
	if n.V6.IsValid() {
		s.awaitRouter(n)
	}
}

// awaitRouter waits until the node and its router have found each other over
// IPv6: of that a packet is lost now and then on a fresh cable, and the kernel
// repeats it a second later.
func (s *Site) awaitRouter(n *Node) {
	s.lab.t.Helper()
	closed := netip.AddrPortFrom(s.v6(1, 1), 9)
	netns.Until(s.lab.t, 20*time.Second, n.Name+": its router over IPv6", func() error {
		c, err := netns.Inside(n.Host, func() (net.Conn, error) { return net.Dial("udp6", closed.String()) })
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err = c.Write([]byte("anybody?")); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("%s does not refuse: %w", closed, err)
		}
		return nil
	})
}

// Move takes a node from its site to another one, as a laptop is carried: new
// LAN, new addresses, the same programs.
func (l *Lab) Move(n *Node, to *Site) {
	l.t.Helper()
	n.IP("link del eth0")
	n.site.nodes = slices.DeleteFunc(n.site.nodes, func(m *Node) bool { return m == n })
	to.attach(n)
}
