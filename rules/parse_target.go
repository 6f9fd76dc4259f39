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
	if len(rest) > 5 && strings.EqualFold(rest[:5], "unix:") && !looksLikePort(rest[5:]) {
		r.Target.Unix = rest[5:]
		p.pos += len(rest)
		return p.checkUnix(*r, listen, start)
	}
	if err := p.bareIPv6(rest, start); err != nil {
		return err
	}
	end := strings.IndexByte(rest, ':')
	var err error
	if strings.HasPrefix(rest, "[") {
		var n int
		if r.Target.Addr, n, err = p.bracketed(rest, start); err != nil {
			return err
		}
		if n < len(rest) && rest[n] != ':' {
			return p.fail(start+n, p.form(), "a colon and the destination port belong after %s", clip(rest[:n], 60))
		}
		end = n
		if n == len(rest) {
			end = -1
		}
	}
	switch {
	case rest == "":
		return p.fail(start, p.form(), "destination is missing")
	case end == 0:
		host := "127.0.0.1"
		if p.direction == Egress {
			host = "db"
		}
		return p.fail(start, p.suggest(start, start, host), "destination host is missing")
	case end < 0:
		return p.fail(start+len(rest), p.form(), "destination port is missing")
	}
	host, port := rest[:end], rest[end+1:]
	if at := strings.IndexByte(port, ':'); at >= 0 {
		return p.fail(start+end+1+at, p.form(), "%q is too much", clip(port[at:], 40))
	}
	if !r.Target.Addr.IsValid() {
		if err := p.host(&r.Target, host, start); err != nil {
			return err
		}
	}
	if err := p.checkHost(r.Target, start); err != nil {
		return err
	}
	if port == "" {
		return p.fail(start+end+1, p.form(), "destination port is missing")
	}
	ports, err := p.ports(port, start+end+1)
	if err != nil {
		return err
	}
	if ports.size != listen.size {
		return p.fail(ports.pos, "ports pair up in order, as in tcp:8000-8010:HOST:9000-9010",
			"the destination has %s, the listener %s", counted(ports.size), counted(listen.size))
	}
	r.Target.Port = ports.first
	p.pos += len(rest)
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
		return p.fail(at, p.suggest(at, at+len(name)-len(strings.TrimLeft(name, "/"))+0, "/"), "the path of the unix socket begins with several slashes")
	case strings.HasSuffix(name, "/") || path.Base(name) == "." || path.Base(name) == "..":
		return p.fail(at, "write unix:/run/app.sock", "the path of the unix socket is a directory")
	case len(name) > maxSocketPath:
		return p.fail(at, "use a shorter path or a symbolic link", "the path of the unix socket has %d bytes, at most %d are possible", len(name), maxSocketPath)
	case listen.size > 1:
		return p.fail(listen.pos, "give each port a rule of its own", "a range of ports cannot lead to one unix socket")
	}
	return nil
}

// host reads an IPv4 address or a name.
func (p *parser) host(t *Target, word string, pos int) error {
	if isIPv4Text(word) {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return p.fail(pos, "an IPv4 address has four numbers from 0 to 255, without leading zeros", "%q is not an IPv4 address", clip(word, 40))
		}
		t.Addr = a
		return nil
	}
	name, err := hostName(word)
	if err != nil {
		hint := "write an IPv4 address, an IPv6 address in brackets, or a name of letters, digits and hyphens"
		if errors.Is(err, errNotASCII) {
			hint = "write its ASCII form, which begins with xn--"
		}
		return p.fail(pos, hint, "host %q %s", clip(word, 80), err)
	}
	t.Host = name
	return nil
}

// checkHost refuses destinations that cannot be dialled.
func (p *parser) checkHost(t Target, pos int) error {
	a, text := t.Addr, t.host()
	const meshHint = "write the name or mesh address of a device, as in tcp:5432:db:5432"
	local := a.IsLoopback() || t.Host == "localhost" || strings.HasSuffix(t.Host, ".localhost")
	switch {
	case p.direction == Egress && (local || a.IsUnspecified()):
		return p.fail(pos, meshHint, "an egress rule dials over the mesh, and %s is this host", text)
	case a.IsUnspecified():
		loopback := "127.0.0.1"
		if a.Is6() {
			loopback = "[::1]"
		}
		return p.fail(pos, p.suggest(pos, pos+p.hostLen(pos), loopback), "%s is not an address to connect to", text)
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return p.fail(pos, "", "%s is not an address to connect to", text)
	case a.Is6() && a.IsLinkLocalUnicast():
		return p.fail(pos, "write another address of it or its name", "%s is link-local and says nothing without a zone", text)
	}
	return nil
}

// hostLen returns the length of the destination host that begins at pos.
func (p *parser) hostLen(pos int) int {
	rest := p.input[pos:p.body()]
	if end := strings.IndexByte(rest, ']'); strings.HasPrefix(rest, "[") && end > 0 {
		return end + 1
	}
	host, _, _ := strings.Cut(rest, ":")
	return len(host)
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

// bareIPv6 explains an IPv6 address without brackets at the start of s, and
// returns nil when there is none. What follows the address may be a port or more.
func (p *parser) bareIPv6(s string, pos int) error {
	if strings.Count(s, ":") < 2 || strings.HasPrefix(s, "[") {
		return nil
	}
	// The longest start of s that is an address, ending at a colon that leaves
	// enough for a rule, is the one that was meant.
	best := ""
	for end := len(s); end > 0; end = strings.LastIndexByte(s[:end], ':') {
		word := s[:end]
		if a, err := netip.ParseAddr(word); err != nil || !a.Is6() {
			continue
		}
		q := parser{direction: p.direction, input: p.input[:pos] + "[" + word + "]" + p.input[pos+len(word):], quiet: true}
		if p.quiet {
			break
		}
		if spec, err := q.parse(); err == nil {
			return p.fail(pos, "write "+spec.String(), "IPv6 address without brackets")
		}
		if best == "" && strings.Contains(word, "::") {
			best = word
		}
	}
	if best != "" {
		return p.fail(pos, "write IPv6 addresses as [fd00::1]", "IPv6 address without brackets")
	}
	return nil
}
