package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what is read.
const (
	MaxLength = 8192 // bytes of one rule
	MaxRange  = 1024 // ports of one range
	MaxAllow  = 64   // allow entries of one rule
)

// Parse reads one rule. The error is an [*Error] that names the wrong place.
func Parse(d Direction, s string) (Spec, error) {
	p := parser{direction: d, input: s}
	return p.parse()
}

// ParseList reads rules separated by white space, the form of the environment
// variables. Duplicates and conflicts are found by [NewSet], not here.
func ParseList(d Direction, s string) ([]Spec, error) {
	var specs []Spec
	for _, field := range strings.Fields(s) {
		spec, err := Parse(d, field)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// parser reads one rule from left to right.
type parser struct {
	direction Direction
	input     string
	pos       int  // bytes read
	quiet     bool // makes no suggestions: this is the check of one
}

// fail makes the error about the byte at pos.
func (p *parser) fail(pos int, hint, format string, args ...any) error {
	return &Error{Direction: p.direction, Input: p.input, Pos: pos, Problem: fmt.Sprintf(format, args...), Hint: hint}
}

// form says how a rule of this direction is written.
func (p *parser) form() string {
	example := "tcp:443:127.0.0.1:8080"
	if p.direction == Egress {
		example = "tcp:5432:db:5432"
	}
	return "write PROTO:[BIND:]PORT:HOST:PORT[,OPTION=VALUE]..., as in " + example
}

// suggest proposes the input with the bytes from..to replaced, if that is a
// rule, and else the general form.
func (p *parser) suggest(from, to int, with string) string {
	if !p.quiet {
		q := parser{direction: p.direction, input: p.input[:from] + with + p.input[to:], quiet: true}
		if spec, err := q.parse(); err == nil {
			return "write " + spec.String()
		}
	}
	return p.form()
}

func (p *parser) parse() (Spec, error) {
	if p.direction != Ingress && p.direction != Egress {
		return Spec{}, p.fail(-1, "say ingress or egress", "direction is not set")
	}
	if err := p.checkText(); err != nil {
		return Spec{}, err
	}
	r := Rule{Direction: p.direction}
	var err error
	if r.Protocol, err = p.protocol(); err != nil {
		return Spec{}, err
	}
	if r.Bind, err = p.bind(); err != nil {
		return Spec{}, err
	}
	ports, err := p.listenPorts()
	if err != nil {
		return Spec{}, err
	}
	r.Port = ports.first
	if err := p.target(&r, ports); err != nil {
		return Spec{}, err
	}
	if r.Options, err = p.options(r); err != nil {
		return Spec{}, err
	}
	return Spec{first: r, size: ports.size}, nil
}

// checkText refuses what no part of a rule may hold.
func (p *parser) checkText() error {
	if p.input == "" {
		return p.fail(0, p.form(), "rule is empty")
	}
	if len(p.input) > MaxLength {
		return p.fail(-1, "", "rule is longer than %d bytes", MaxLength)
	}
	for i, r := range p.input {
		_, size := utf8.DecodeRuneInString(p.input[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return p.fail(i, "", "rule is not valid UTF-8 (byte 0x%02x)", p.input[i])
		case unicode.IsSpace(r):
			return p.fail(i, "write it without spaces; each rule has its own flag", "rule holds white space")
		case !unicode.IsPrint(r):
			return p.fail(i, "", "rule holds the unprintable character %U", r)
		}
	}
	return nil
}

// body returns the end of the part before the options.
func (p *parser) body() int {
	if at := strings.IndexByte(p.input, ','); at >= 0 {
		return at
	}
	return len(p.input)
}

// rest returns what is left before the options.
func (p *parser) rest() string { return p.input[p.pos:max(p.pos, p.body())] }

func (p *parser) protocol() (Protocol, error) {
	word, _, more := strings.Cut(p.rest(), ":")
	proto, ok := parseProtocol(word)
	switch {
	case ok && !more:
		return 0, p.fail(p.body(), p.form(), "port and destination are missing")
	case ok:
		p.pos = len(word) + 1
		return proto, nil
	case word == "":
		return 0, p.fail(0, p.suggest(0, 0, "tcp"), "protocol is missing")
	case word[0] >= '0' && word[0] <= '9' || word[0] == '[':
		return 0, p.fail(0, p.suggest(0, 0, "tcp:"), "protocol is missing before %q", clip(word, 40))
	case strings.HasPrefix(word, "-"):
		return 0, p.fail(0, p.form(), "a flag stands where a rule belongs")
	}
	return 0, p.fail(0, p.suggest(0, len(word), "tcp"), "unknown protocol %q: tcp and udp are known", clip(word, 40))
}

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

// portRange is a port, or ports that follow each other.
type portRange struct {
	first, size uint16
	pos         int // where it stands
}

func (p *parser) listenPorts() (portRange, error) {
	rest := p.rest()
	word, _, more := strings.Cut(rest, ":")
	start := p.pos
	if word == "" {
		return portRange{}, p.fail(start, p.form(), "port to listen on is missing")
	}
	ports, err := p.ports(word, start)
	if err != nil {
		return portRange{}, err
	}
	if !more {
		return portRange{}, p.fail(start+len(word), p.form(), "destination is missing")
	}
	p.pos = start + len(word) + 1
	return ports, nil
}

// ports reads PORT or FIRST-LAST.
func (p *parser) ports(word string, pos int) (portRange, error) {
	low, high, isRange := strings.Cut(word, "-")
	if isRange && low == "" {
		return portRange{}, p.fail(pos, "a port is 1 to 65535", "port %q is negative", clip(word, 40))
	}
	first, err := p.port(low, pos)
	if err != nil {
		return portRange{}, err
	}
	if !isRange {
		return portRange{first: first, size: 1, pos: pos}, nil
	}
	highPos := pos + len(low) + 1
	if high == "" {
		return portRange{}, p.fail(highPos, "write a range as 8000-8010", "range %q has no end", clip(word, 40))
	}
	last, err := p.port(high, highPos)
	switch {
	case err != nil:
		return portRange{}, err
	case last < first:
		return portRange{}, p.fail(pos, fmt.Sprintf("write %d-%d", last, first), "range %s is reversed", word)
	case int(last)-int(first) >= MaxRange:
		return portRange{}, p.fail(pos, fmt.Sprintf("split it: a range has at most %d ports", MaxRange),
			"range %s has %d ports", word, int(last)-int(first)+1)
	}
	return portRange{first: first, size: last - first + 1, pos: pos}, nil
}

// port reads a decimal number from 1 to 65535 without leading zeros.
func (p *parser) port(word string, pos int) (uint16, error) {
	const hint = "a port is 1 to 65535"
	for i := range len(word) {
		if word[i] < '0' || word[i] > '9' {
			return 0, p.fail(pos, hint, "port %q is not a number", clip(word, 40))
		}
	}
	digits := strings.TrimLeft(word, "0")
	switch {
	case word == "":
		return 0, p.fail(pos, p.form(), "port is missing")
	case digits == "":
		return 0, p.fail(pos, hint, "port 0 cannot be used")
	case digits != word:
		return 0, p.fail(pos, p.suggest(pos, pos+len(word), digits), "port %q has a leading zero", clip(word, 40))
	}
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return 0, p.fail(pos, hint, "port %s is too large", clip(word, 40))
	}
	return uint16(n), nil
}

// looksLikePort reports whether a word was meant as a port or range.
func looksLikePort(word string) bool {
	return strings.Trim(word, "0123456789-+") == ""
}
