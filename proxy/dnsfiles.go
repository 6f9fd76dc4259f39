package proxy

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// The host's own files about names.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
	hostsLimit = 1 << 20 // bytes read of it
)

// systemDNS reads the host's files with each call: they are small, and change
// when the network does.
func systemDNS() func() dnsConfig {
	return func() dnsConfig { return readDNSConfig(resolvConf, hostsFile) }
}

// readDNSConfig never fails: what cannot be read is empty, and without servers
// every question fails with that reason.
func readDNSConfig(resolv, hosts string) dnsConfig {
	cfg := dnsConfig{search: func(name string) []string { return []string{dns.Fqdn(name)} }}
	if c, err := dns.ClientConfigFromFile(resolv); err == nil {
		for _, s := range c.Servers {
			cfg.servers = append(cfg.servers, net.JoinHostPort(s, c.Port))
		}
		cfg.search = c.NameList
	}
	if f, err := os.Open(hosts); err == nil {
		defer f.Close()
		cfg.hosts = parseHosts(io.LimitReader(f, hostsLimit))
	}
	return cfg
}

// parseHosts reads "ADDRESS NAME..." lines; what is no such line is skipped.
func parseHosts(r io.Reader) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil {
			continue
		}
		for _, name := range words[1:] {
			name = trimDot(strings.ToLower(name))
			hosts[name] = append(hosts[name], addr.Unmap().WithZone(""))
		}
	}
	return hosts
}

func trimDot(name string) string { return strings.TrimSuffix(name, ".") }
