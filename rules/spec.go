package rules

import (
	"strconv"
)

// Spec is what a person wrote: one rule, or a range of ports that stands for
// one rule each. Two Specs are the same when [Spec.Equal] says so, or their
// directions and texts agree. The zero value is no rule.
type Spec struct {
	first Rule   // the rule of the lowest port
	size  uint16 // number of ports; 1 or more, except in the zero value
}

// IsZero reports whether this is the zero value.
func (s Spec) IsZero() bool { return s.size == 0 }

// Direction returns the direction all its rules have.
func (s Spec) Direction() Direction { return s.first.Direction }

// Len returns the number of rules.
func (s Spec) Len() int { return int(s.size) }

// First returns the rule of the lowest port.
func (s Spec) First() Rule { return s.first }

// Rules returns a rule for each port, lowest first. The caller owns the slice.
func (s Spec) Rules() []Rule {
	rules := make([]Rule, s.size)
	for i := range rules {
		rules[i] = s.at(i)
	}
	return rules
}

// at returns the rule of the i-th port.
func (s Spec) at(i int) Rule {
	r := s.first
	r.Port += uint16(i)
	if r.Target.Unix == "" {
		r.Target.Port += uint16(i)
	}
	return r
}

// slice returns the ports from the i-th up to, not including, the j-th.
func (s Spec) slice(i, j int) Spec {
	return Spec{first: s.at(i), size: uint16(j - i)}
}

// Equal reports whether both stand for the same rules.
func (s Spec) Equal(o Spec) bool { return s.size == o.size && s.first.Equal(o.first) }

// String returns the canonical text, without the direction: the inverse of [Parse].
func (s Spec) String() string {
	if s.IsZero() {
		return ""
	}
	r := s.first
	b := append(make([]byte, 0, 64), r.Protocol.String()...)
	b = append(b, ':')
	if r.Bind.IsValid() {
		b = append(b, formatAddr(r.Bind)...)
		b = append(b, ':')
	}
	b = s.appendPorts(b, r.Port)
	b = append(b, ':')
	if r.Target.Unix != "" {
		b = append(b, r.Target.String()...)
	} else {
		b = append(b, r.Target.host()...)
		b = append(b, ':')
		b = s.appendPorts(b, r.Target.Port)
	}
	return string(r.Options.appendTo(b))
}

// appendPorts appends the port, or the range that begins with it.
func (s Spec) appendPorts(b []byte, first uint16) []byte {
	b = strconv.AppendUint(b, uint64(first), 10)
	if s.size > 1 {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(first)+uint64(s.size)-1, 10)
	}
	return b
}
