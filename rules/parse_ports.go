package rules

import (
	"fmt"
	"strconv"
	"strings"
)

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
