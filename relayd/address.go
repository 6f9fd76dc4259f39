package relayd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"nexd/controlapi"
)

// relayPath is where WebSocket clients are taken.
const relayPath = "/v1/relay"

// checkPublic reports what is wrong with the hosts devices are told.
func (c *Config) checkPublic() error {
	if len(c.PublicAddresses) > controlapi.MaxRelayUDP {
		return fmt.Errorf("--public-address is given %d times: at most %d", len(c.PublicAddresses), controlapi.MaxRelayUDP)
	}
	for _, host := range c.PublicAddresses {
		probe := controlapi.RelayAddress{UDP: []string{net.JoinHostPort(host, "1")}}
		if probe.Check() != nil {
			return fmt.Errorf("--public-address %q: want an IP address or a DNS name that devices reach this relay by, without a port", host)
		}
	}
	if len(c.publicHosts()) == 0 {
		return errors.New("--public-address is not set and cannot be guessed: the relay listens on every address; say by which of them, or by which name, devices reach it")
	}
	return nil
}

// publicHosts are the hosts devices are told: those given, or the one the relay
// listens on.
func (c *Config) publicHosts() []string {
	if len(c.PublicAddresses) > 0 {
		return c.PublicAddresses
	}
	for _, listen := range []string{c.RelayListen, c.Listen} {
		host, _, err := net.SplitHostPort(listen)
		if err != nil || host == "" {
			continue
		}
		if ip, err := netip.ParseAddr(host); err == nil && (ip.IsUnspecified() || ip.Zone() != "") {
			continue
		}
		return []string{host}
	}
	return nil
}

// address is what the service is told: every host with the UDP port, and one of
// them with the HTTPS port (0: none).
func address(hosts []string, udp, https uint16, leaf *x509.Certificate, spki []byte) controlapi.RelayAddress {
	var a controlapi.RelayAddress
	for _, host := range hosts {
		a.UDP = append(a.UDP, net.JoinHostPort(host, strconv.Itoa(int(udp))))
	}
	if https == 0 {
		return a
	}
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(webHost(hosts, leaf, spki), strconv.Itoa(int(https))), Path: relayPath}
	a.URL = u.String()
	if spki != nil {
		a.Pin = controlapi.PinOf(spki)
	}
	return a
}

// webHost picks the host of the URL: one has to do, and where authorities vouch
// for the certificate it has to be one the certificate is for.
func webHost(hosts []string, leaf *x509.Certificate, spki []byte) string {
	if spki == nil {
		for _, host := range hosts {
			if leaf.VerifyHostname(host) == nil {
				return host
			}
		}
	}
	return hosts[0]
}
