package rules

import (
	"fmt"
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
