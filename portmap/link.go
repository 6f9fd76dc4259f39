package portmap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// link is the way to the gateway.
type link struct {
	gateway netip.Addr // with a zone where it needs one; invalid: not known
	local   netip.Addr // ours, as packets to the internet show it
	prefix  netip.Prefix
	device  string
}

// allows reports whether a is a host of the link that may be asked: the gateway
// itself, or a private address of the same network. It keeps a false answer
// from sending our requests anywhere else.
func (l link) allows(a netip.Addr) bool {
	if !a.IsValid() || a == l.local {
		return a.IsValid() && a == l.gateway
	}
	return a == l.gateway || l.prefix.Contains(a) && (a.IsPrivate() || a.IsLinkLocalUnicast())
}

// Nobody is asked at these addresses: the kernel says which of ours it would
// use for the internet.
var (
	somewhere4 = netip.MustParseAddrPort("192.0.2.1:9")
	somewhere6 = netip.MustParseAddrPort("[2001:db8::1]:9")
)

// findLink looks at the machine's routes.
func findLink(v6 bool) (link, error) {
	network, somewhere := "udp4", somewhere4
	if v6 {
		network, somewhere = "udp6", somewhere6
	}
	c, err := net.DialUDP(network, nil, net.UDPAddrFromAddrPort(somewhere)) // sends nothing
	if err != nil {
		return link{}, errNoRoute
	}
	local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	c.Close()
	l := link{local: local}
	if v6 && (!local.IsGlobalUnicast() || local.IsPrivate()) {
		return l, errors.New("no global IPv6 address")
	}
	if err := l.onLink(); err != nil {
		return l, err
	}
	if l.gateway, err = defaultGateway(v6, l.device); err != nil && v6 {
		return l, err // where it is not known, UPnP finds it; there is none of that by IPv6
	}
	return l, nil
}

// onLink finds the interface and network of the local address.
func (l *link) onLink() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone in between
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, _ := netip.AddrFromSlice(n.IP)
			ones, bits := n.Mask.Size()
			if ip = ip.Unmap(); ip == l.local && bits == ip.BitLen() {
				l.prefix, l.device = netip.PrefixFrom(ip, ones).Masked(), i.Name
				return nil
			}
		}
	}
	return fmt.Errorf("no interface has %s", l.local)
}
