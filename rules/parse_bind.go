package rules

import (
	"net/netip"
	"strings"
)

// bind reads BIND if there is one; then the port is next.
func (p *parser) bind() (netip.Addr, error) {
	rest, start := p.rest(), p.pos
	var addr netip.Addr
	if strings.HasPrefix(rest, "[") {
		a, n, err := p.bracketed(rest, start)
		if err != nil {
			return addr, err
		}
		if n == len(rest) {
			return addr, p.fail(start+n, p.form(), "port and destination are missing")
		}
		if rest[n] != ':' {
			return addr, p.fail(start+n, p.form(), "a colon belongs after %s", rest[:n])
		}
		addr, p.pos = a, start+n+1
	} else {
		word, _, more := strings.Cut(rest, ":")
		if word == "" || looksLikePort(word) {
			return addr, p.bareIPv6(rest, start, word == "")
		}
		a, err := netip.ParseAddr(word)
		switch {
		case err != nil && isIPv4Text(word):
			return addr, p.fail(start, "each of its four numbers is 0 to 255, without leading zeros", "%q is not an IPv4 address", clip(word, 40))
		case err != nil:
			if err := p.bareIPv6(rest, start, true); err != nil {
				return addr, err
			}
			if _, err := hostName(word); err != nil && word != "*" {
				return addr, p.fail(start, p.form(), "%q is neither a port nor an address", clip(word, 40))
			}
			return addr, p.fail(start, p.bindHint(word, start), "%q stands where the port or an IP address to listen on belongs", clip(word, 40))
		case !more:
			return addr, p.fail(start+len(word), p.form(), "port and destination are missing")
		}
		addr, p.pos = a, start+len(word)+1
	}
	return addr, p.checkBind(addr, start, p.pos)
}

// bindHint proposes an address for a name in the place of BIND.
func (p *parser) bindHint(word string, start int) string {
	switch {
	case p.direction == Ingress, strings.EqualFold(word, "localhost"):
		return p.suggest(start, min(start+len(word)+1, len(p.input)), "")
	case word == "*":
		return p.suggest(start, start+1, "[::]")
	}
	return p.form()
}

// checkBind refuses addresses nobody can listen on.
func (p *parser) checkBind(a netip.Addr, start, end int) error {
	without := func() string { return p.suggest(start, end, "") }
	switch {
	case a.IsMulticast(), a == broadcast4:
		return p.fail(start, "write an address of this host, or leave it out", "%s is not an address to listen on", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return p.fail(start, "write another address of this host, or leave it out", "%s is link-local and says nothing without a zone", a)
	case p.direction == Ingress && (a.IsUnspecified() || a.IsLoopback()):
		return p.fail(start, without(), "an ingress rule listens at this device's mesh addresses, not on %s", a)
	}
	return nil
}
