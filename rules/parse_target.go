package rules

import (
	"errors"
	"net/netip"
	"path"
	"strings"
)

// maxSocketPath is the longest path a unix socket address holds on Linux, in
// bytes, without the zero at its end.
const maxSocketPath = 107

// target reads the destination into r.
func (p *parser) target(r *Rule, listen portRange) error {
	rest, start := p.rest(), p.pos
	p.pos += len(rest)
	if len(rest) > 5 && strings.EqualFold(rest[:5], "unix:") && !looksLikePort(rest[5:]) {
		r.Target.Unix = rest[5:]
		return p.checkUnix(*r, listen, start)
	}
	if scheme := strings.Index(rest, "://"); scheme >= 0 {
		return p.fail(start, p.suggest(start, start+scheme+3, ""), "a URL stands where HOST:PORT belongs")
	}
	if err := p.bareIPv6(rest, start, true); err != nil {
		return err
	}
	n, err := p.host(&r.Target, rest, start)
	if err != nil {
		return err
	}
	if err := p.checkHost(r.Target, start, n); err != nil {
		return err
	}
	if n == len(rest) || n+1 == len(rest) {
		return p.fail(start+len(rest), p.form(), "destination port is missing")
	}
	word, pos := rest[n+1:], start+n+1
	if at := strings.IndexByte(word, ':'); at >= 0 {
		return p.fail(pos+at, p.form(), "%q is too much", clip(word[at:], 40))
	}
	ports, err := p.ports(word, pos)
	if err != nil {
		return err
	}
	if ports.size != listen.size {
		return p.fail(pos, "ports pair up in order, as in tcp:8000-8010:HOST:9000-9010",
			"the destination has %s, the listener %s", counted(ports.size), counted(listen.size))
	}
	r.Target.Port = ports.first
	return nil
}

func (p *parser) checkUnix(r Rule, listen portRange, start int) error {
	name, at := r.Target.Unix, start+len("unix:")
	switch {
	case p.direction == Egress:
		return p.fail(start, "write HOST:PORT of a mesh device; a socket of this host is offered with an ingress rule",
			"a unix socket cannot be reached over the mesh")
	case r.Protocol != TCP:
		return p.fail(start, "write tcp", "a unix socket takes tcp, not %s", r.Protocol)
	case name[0] != '/':
		return p.fail(at, "write unix:/run/app.sock", "the path of a unix socket is not absolute")
	case strings.HasPrefix(name, "//"):
		return p.fail(at, p.suggest(at, at+len(name)-len(strings.TrimLeft(name, "/")), "/"), "the path of the unix socket begins with several slashes")
	case strings.HasSuffix(name, "/") || path.Base(name) == "." || path.Base(name) == "..":
		return p.fail(at, "write unix:/run/app.sock", "the path of the unix socket is a directory")
	case len(name) > maxSocketPath:
		return p.fail(at, "use a shorter path or a symbolic link", "the path of the unix socket has %d bytes, at most %d are possible", len(name), maxSocketPath)
	case listen.size > 1:
		return p.fail(listen.pos, "give each port a rule of its own", "a range of ports cannot lead to one unix socket")
	}
	return nil
}

// host reads the host at the start of rest and returns its length; a colon or
// the end follows it.
func (p *parser) host(t *Target, rest string, pos int) (n int, err error) {
	if strings.HasPrefix(rest, "[") {
		if t.Addr, n, err = p.bracketed(rest, pos); err != nil {
			return 0, err
		}
		if n < len(rest) && rest[n] != ':' {
			return 0, p.fail(pos+n, p.form(), "a colon and the destination port belong after %s", rest[:n])
		}
		return n, nil
	}
	word, _, more := strings.Cut(rest, ":")
	switch {
	case rest == "":
		return 0, p.fail(pos, p.form(), "destination is missing")
	case word == "" && p.direction == Egress:
		return 0, p.fail(pos, p.suggest(pos, pos, "db"), "destination host is missing")
	case word == "":
		return 0, p.fail(pos, p.suggest(pos, pos, "127.0.0.1"), "destination host is missing")
	case !more && looksLikePort(word):
		return 0, p.fail(pos, p.form(), "destination host is missing before %q", clip(word, 40))
	case isIPv4Text(word):
		if t.Addr, err = netip.ParseAddr(word); err != nil {
			return 0, p.fail(pos, "an IPv4 address has four numbers from 0 to 255, without leading zeros", "%q is not an IPv4 address", clip(word, 40))
		}
		return len(word), nil
	}
	if t.Host, err = hostName(word); err != nil {
		hint := "write an IPv4 address, an IPv6 address in brackets, or a name of letters, digits and hyphens"
		if errors.Is(err, errNotASCII) {
			hint = "write its ASCII form, which begins with xn--"
		}
		return 0, p.fail(pos, hint, "host %q %s", clip(word, 80), err)
	}
	return len(word), nil
}

// checkHost refuses destinations that cannot be dialled; the host has n bytes at pos.
func (p *parser) checkHost(t Target, pos, n int) error {
	a, text := t.Addr, t.host()
	local := a.IsLoopback() || t.Host == "localhost" || strings.HasSuffix(t.Host, ".localhost")
	switch {
	case p.direction == Egress && (local || a.IsUnspecified()):
		return p.fail(pos, "write the name or mesh address of a device, as in tcp:5432:db:5432",
			"an egress rule dials over the mesh, and %s is this host", text)
	case a.IsUnspecified():
		loopback := loopback4
		if a.Is6() {
			loopback = loopback6
		}
		return p.fail(pos, p.suggest(pos, pos+n, formatAddr(loopback)), "%s is not an address to connect to", text)
	case a.IsMulticast(), a == broadcast4:
		return p.fail(pos, "write the address of one host", "%s is not an address to connect to", text)
	case a.Is6() && a.IsLinkLocalUnicast():
		return p.fail(pos, "write another address of it, or its name", "%s is link-local and says nothing without a zone", text)
	}
	return nil
}

// bracketed reads [IPv6] at the start of s and returns its length.
func (p *parser) bracketed(s string, pos int) (netip.Addr, int, error) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return netip.Addr{}, 0, p.fail(pos, "write IPv6 addresses as [fd00::1]", "bracket is not closed")
	}
	word := s[1:end]
	a, err := netip.ParseAddr(word)
	switch {
	case err == nil && a.Zone() != "":
		return a, 0, p.fail(pos+1+strings.IndexByte(word, '%'), "write an address that needs no zone, or a name", "zone in %s: zones are not supported", clip(s[:end+1], 80))
	case err == nil && a.Is4():
		return a, 0, p.fail(pos, p.suggest(pos, pos+end+1, word), "brackets are for IPv6 addresses, %s is IPv4", word)
	case err == nil && a.Is4In6():
		return a, 0, p.fail(pos, p.suggest(pos, pos+end+1, a.Unmap().String()), "%s is an IPv4 address in IPv6 form", word)
	case err != nil:
		return a, 0, p.fail(pos, "write IPv6 addresses as [fd00::1]", "%q is not an IPv6 address", clip(word, 60))
	}
	return a, end + 1, nil
}

// longestIPv6 is the length of the longest text of an IPv6 address.
const longestIPv6 = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")

// bareIPv6 explains an IPv6 address without brackets at the start of s; nil
// when there is none. Where the address ends and a port begins is a guess: the
// longest that makes a rule. Unless sure is set, no rule means no address.
func (p *parser) bareIPv6(s string, pos int, sure bool) error {
	if p.quiet || strings.Count(s, ":") < 2 || s[0] == '[' {
		return nil
	}
	found := false
	for end := len(s); end > 0; end = strings.LastIndexByte(s[:end], ':') {
		if end > longestIPv6 {
			continue
		}
		if a, err := netip.ParseAddr(s[:end]); err != nil || !a.Is6() {
			continue
		}
		found = true
		q := parser{direction: p.direction, input: p.input[:pos] + "[" + s[:end] + "]" + p.input[pos+end:], quiet: true}
		if spec, err := q.parse(); err == nil {
			return p.fail(pos, "write "+spec.String(), "IPv6 address without brackets")
		}
	}
	if found && sure {
		return p.fail(pos, "write IPv6 addresses as [fd00::1]", "IPv6 address without brackets")
	}
	return nil
}
