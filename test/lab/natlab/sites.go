//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"nexd/test/lab"
)

// siteSpec is one SITE of the command line.
type siteSpec struct {
	kind    lab.Kind
	carrier bool
	via     string // the name of a carrier before it
	options lab.Options
}

// parseSites reads the command line; "all" is a site of each kind.
func parseSites(args []string) ([]siteSpec, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("no sites: write at least one, as a=full-cone")
	}
	var specs []siteSpec
	if len(args) == 1 && args[0] == "all" {
		for _, k := range lab.Kinds() {
			specs = append(specs, siteSpec{kind: k})
		}
		return specs, nil
	}
	for _, arg := range args {
		s, err := parseSite(arg)
		if err != nil {
			return nil, fmt.Errorf("site %q: %w", arg, err)
		}
		specs = append(specs, s)
	}
	return specs, nil
}

func parseSite(arg string) (s siteSpec, err error) {
	name, rest, ok := strings.Cut(arg, "=")
	if !ok || name == "" {
		return s, fmt.Errorf("want NAME=KIND")
	}
	s.options.Name = name
	words := strings.Split(rest, ",")
	kind, carrier := strings.CutPrefix(words[0], "carrier:")
	s.carrier = carrier
	if s.kind, err = lab.ParseKind(kind); err != nil {
		return s, err
	}
	for _, word := range words[1:] {
		if err := s.option(word); err != nil {
			return s, err
		}
	}
	return s, nil
}

// option reads one option into the spec.
func (s *siteSpec) option(word string) (err error) {
	o := &s.options
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "nodes":
		if o.Nodes, err = strconv.Atoi(value); err == nil && (o.Nodes < 1 || o.Nodes > 50) {
			err = fmt.Errorf("nodes: want 1 to 50")
		}
	case "via":
		s.via = value
	case "lan":
		o.LAN, err = netip.ParsePrefix(value)
		if err == nil && (o.LAN.Bits() != 24 || !o.LAN.Addr().Is4()) {
			err = fmt.Errorf("lan: want an IPv4 /24")
		}
	case "v6":
		switch value {
		case "open":
			o.V6 = lab.OpenV6
		case "fw":
			o.V6 = lab.FirewalledV6
		default:
			err = fmt.Errorf("v6: want open or fw")
		}
	case "inner":
		o.Inner, err = lab.ParseKind(value)
	case "outer":
		o.Outer, err = lab.ParseKind(value)
	case "hairpin":
		o.Hairpin = true
	case "natpmp":
		o.PortMapping = true
	case "orefresh":
		o.OutboundRefresh = true
	default:
		err = fmt.Errorf("no option %q", name)
	}
	return err
}

// build makes the lab.
func build(s *lab.Session, specs []siteSpec) *lab.Lab {
	l := lab.New(s)
	for _, spec := range specs {
		if spec.via != "" {
			via, err := l.SiteNamed(spec.via)
			if err != nil {
				s.Fatalf("via: %v before it", err)
			}
			spec.options.Via = via
		}
		if spec.carrier {
			l.Carrier(spec.kind, spec.options)
		} else {
			l.Site(spec.kind, spec.options)
		}
	}
	return l
}
