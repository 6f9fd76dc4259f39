package rules

import (
	"net/netip"
	"strconv"
)

// Target is where a rule's connections go. Exactly one of Addr, Host and Unix
// is set. Targets are comparable.
type Target struct {
	Host string     // a DNS or device name, lower case
	Addr netip.Addr // an IP address
	Port uint16     // 0 for a unix socket
	Unix string     // absolute path of a unix stream socket
}

// String returns "127.0.0.1:80", "[::1]:80", "db:5432" or "unix:/path".
func (t Target) String() string {
	if t.Unix != "" {
		return "unix:" + t.Unix
	}
	return t.host() + ":" + strconv.Itoa(int(t.Port))
}

// AddrPort returns the address and port of a target that is an IP address.
func (t Target) AddrPort() (addr netip.AddrPort, ok bool) {
	return netip.AddrPortFrom(t.Addr, t.Port), t.Addr.IsValid()
}

// host returns the host as it stands in a rule.
func (t Target) host() string {
	if t.Addr.IsValid() {
		return formatAddr(t.Addr)
	}
	return t.Host
}

// formatAddr puts IPv6 addresses in brackets.
func formatAddr(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}
