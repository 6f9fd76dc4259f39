package rules

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rule is one listening port and one destination. Rules come from [Parse] or
// pass [Rule.Validate]; a range of ports is one Rule for each port. A Rule is
// a value: nobody changes the slice in its Options.
type Rule struct {
	Direction Direction
	Protocol  Protocol
	Bind      netip.Addr // invalid: no BIND was given
	Port      uint16     // to listen on
	Target    Target
	Options   Options
}

// Options are what may follow a rule; the zero value of each is its default.
type Options struct {
	// Allow lists who may connect; empty is everybody who can reach the port.
	// It is sorted and without repetition.
	Allow []Allow
	// ProxyProtocol is the header sent to the destination; tcp only.
	ProxyProtocol Version
	// MaxConns bounds connections (udp: flows) of this rule at a time; 0 is no bound of its own.
	MaxConns int
	// DialTimeout bounds one attempt to reach the destination, with name resolution.
	DialTimeout time.Duration
	// IdleTimeout ends a connection or flow that moved no byte for so long.
	IdleTimeout time.Duration
}

// Allow is one entry of who may connect; exactly one field is set.
type Allow struct {
	Name   string       // a mesh device's name, without the domain
	Tag    string       // a tag of mesh devices
	Prefix netip.Prefix // source addresses, masked
}

// ListenKey says where a rule listens. Rules of the same key balance.
type ListenKey struct {
	Direction Direction
	Protocol  Protocol
	Bind      netip.Addr
	Port      uint16
}

// Key returns where the rule listens.
func (r Rule) Key() ListenKey {
	return ListenKey{Direction: r.Direction, Protocol: r.Protocol, Bind: r.Bind, Port: r.Port}
}

// String returns the canonical text of the rule, without its direction.
func (r Rule) String() string { return r.Spec().String() }

// Spec returns the rule as a Spec of one port.
func (r Rule) Spec() Spec { return Spec{first: r, size: 1} }

// Equal reports whether the rules are the same in every part.
func (r Rule) Equal(o Rule) bool {
	return r.Key() == o.Key() && r.Target == o.Target && r.Options.Equal(o.Options)
}

// Validate reports what is wrong with a rule that was not made by [Parse], as
// an [*Error] about its text.
func (r Rule) Validate() error {
	text := r.String()
	spec, err := Parse(r.Direction, text)
	if err != nil {
		return err
	}
	if rules := spec.Rules(); len(rules) != 1 || !rules[0].Equal(r) {
		return &Error{
			Direction: r.Direction, Input: text, Pos: -1,
			Problem: "rule is not in its canonical form", Hint: "make it with Parse",
		}
	}
	return nil
}

// Equal reports whether all options are the same.
func (o Options) Equal(p Options) bool {
	return slices.Equal(o.Allow, p.Allow) && o.ProxyProtocol == p.ProxyProtocol &&
		o.MaxConns == p.MaxConns && o.DialTimeout == p.DialTimeout && o.IdleTimeout == p.IdleTimeout
}

// IsZero reports whether no option is set.
func (o Options) IsZero() bool { return o.Equal(Options{}) }

// String returns the value of an allow option: "100.64.0.0/10", "db" or "tag:web".
func (a Allow) String() string {
	switch {
	case a.Tag != "":
		return "tag:" + a.Tag
	case a.Name != "":
		return a.Name
	}
	return a.Prefix.String()
}

// compare orders entries: addresses, then names, then tags.
func (a Allow) compare(b Allow) int {
	if a.Prefix.IsValid() != b.Prefix.IsValid() {
		if a.Prefix.IsValid() {
			return -1
		}
		return 1
	}
	if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
		return c
	}
	if c := a.Prefix.Bits() - b.Prefix.Bits(); c != 0 {
		return c
	}
	if c := strings.Compare(a.Tag, b.Tag); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// appendTo appends the options in their fixed order, each after a comma.
func (o Options) appendTo(b []byte) []byte {
	for _, a := range o.Allow {
		b = append(b, ",allow="...)
		b = append(b, a.String()...)
	}
	if o.ProxyProtocol != ProxyNone {
		b = append(b, ",proxy-protocol="...)
		b = append(b, o.ProxyProtocol.String()...)
	}
	if o.MaxConns != 0 {
		b = append(b, ",max-conns="...)
		b = strconv.AppendInt(b, int64(o.MaxConns), 10)
	}
	if o.DialTimeout != 0 {
		b = append(b, ",dial-timeout="...)
		b = append(b, formatDuration(o.DialTimeout)...)
	}
	if o.IdleTimeout != 0 {
		b = append(b, ",idle-timeout="...)
		b = append(b, formatDuration(o.IdleTimeout)...)
	}
	return b
}

// formatDuration is time.Duration's own form without its zero parts: "1m", not "1m0s".
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-len("0s")]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-len("0m")]
	}
	return s
}
