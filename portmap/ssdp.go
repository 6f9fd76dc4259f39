package portmap

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"golang.org/x/net/ipv4"
)

// ssdpGroup is where UPnP devices listen for searches (UPnP Device Architecture
// 1.1, section 1.3).
var ssdpGroup = netip.MustParseAddrPort("239.255.255.250:1900")

// searchPatience is how long answers are waited for after each search; the
// first one may be lost.
var searchPatience = []time.Duration{400 * time.Millisecond, 1600 * time.Millisecond}

const (
	// maxFound and maxAnswers bound what the hosts of a network may answer.
	maxFound   = 4
	maxAnswers = 64
)

// searched are the devices looked for; newer versions answer to the first, too.
var searched = []string{
	"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
	"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
}

// search asks the network of the link for gateways and returns where they
// describe themselves, the default gateway first. It asks that one directly,
// too, at the group's port.
func search(ctx context.Context, l link, group netip.AddrPort) ([]*url.URL, error) {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.local, 0)))
	if err != nil {
		return nil, fmt.Errorf("search the network: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	if i, err := net.InterfaceByName(l.device); err == nil {
		p := ipv4.NewPacketConn(c)
		p.SetMulticastInterface(i) // the routes say the same where this fails
		p.SetMulticastTTL(2)
	}
	var found []*url.URL
	b := make([]byte, maxPacket)
	answers := 0
	for _, wait := range searchPatience {
		sendSearch(c, l, group)
		if c.SetReadDeadline(time.Now().Add(wait)); ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for ; answers < maxAnswers; answers++ {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				break
			}
			at, ok := parseFound(b[:n], from.Addr().Unmap())
			if !ok || !l.allows(from.Addr().Unmap()) || slices.ContainsFunc(found, func(u *url.URL) bool { return *u == *at }) {
				continue
			}
			if from.Addr().Unmap() == l.gateway {
				return append([]*url.URL{at}, found...), nil // nobody else is better
			}
			if len(found) < maxFound {
				found = append(found, at)
			}
		}
	}
	if len(found) == 0 {
		return nil, errSilent
	}
	return found, ctx.Err()
}

// sendSearch sends the searches; what cannot be sent is as if lost.
func sendSearch(c *net.UDPConn, l link, group netip.AddrPort) {
	for _, target := range searched {
		packet := fmt.Appendf(nil, "M-SEARCH * HTTP/1.1\r\nHOST: %s\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n", ssdpGroup, target)
		if group.Addr().IsMulticast() {
			c.WriteToUDPAddrPort(packet, group)
		}
		if l.gateway.IsValid() {
			c.WriteToUDPAddrPort(packet, netip.AddrPortFrom(l.gateway, group.Port()))
		}
	}
}

// parseFound reads an answer to a search: where the device describes itself,
// which must be at the address the answer is from.
func parseFound(b []byte, from netip.Addr) (*url.URL, bool) {
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil, false
	}
	answer.Body.Close()
	at, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || answer.StatusCode != http.StatusOK || at.Scheme != "http" || at.User != nil {
		return nil, false
	}
	host, err := netip.ParseAddr(at.Hostname())
	return at, err == nil && host == from
}
