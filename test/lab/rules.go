//go:build linux

package lab

import (
	"fmt"
	"strings"
	"time"
)

const (
	// defaultTimeout is how long the maps of a NAT remember without traffic.
	defaultTimeout = 2 * time.Minute
	// hairpinMark is on packets from inside to the router's outside address.
	hairpinMark = "0x1ab"
)

// script collects nftables commands.
type script struct{ strings.Builder }

func (s *script) add(format string, args ...any) {
	fmt.Fprintf(&s.Builder, format+"\n", args...)
}

// replace begins a table that takes the place of one of the same name.
func (s *script) replace(family, name string) {
	s.add("add table %s %s", family, name)
	s.add("delete table %s %s", family, name)
	s.add("table %s %s {", family, name)
}

// chain begins a chain at a hook; its priority is a number or a name.
func (s *script) chain(kind, hook, priority string) {
	s.add("chain %s_%s { type %s hook %s priority %s; policy accept;", kind, hook, kind, hook, priority)
}

func (s *script) end() { s.add("}") }

// natRules is the table that translates IPv4 at the site's router. Loading it
// forgets what the maps hold but not the kernel's flows. forwards are the
// mappings clients asked for; they live in the table too.
func (s *Site) natRules(forwards []forward) string {
	if s.nat.public() {
		return ""
	}
	var r script
	r.replace("ip", "nat")
	s.natMaps(&r, forwards)

	// Before translation: what is a hairpin, and what came too late.
	r.chain("filter", "prerouting", "mangle")
	if s.options.Hairpin {
		r.add(`iifname != "wan0" ip daddr %s meta l4proto udp meta mark set %s`, s.outside, hairpinMark)
	}
	if s.options.OutboundRefresh {
		r.add(`iifname "wan0" meta l4proto udp ip saddr . udp sport . udp dport != @recent drop`)
	}
	r.end()

	// Destination: arriving packets that belong to no flow.
	r.chain("nat", "prerouting", "dstnat")
	arrives := fmt.Sprintf(`iifname "wan0" ip daddr %s meta l4proto udp`, s.outside)
	r.add("%s dnat to udp dport map @forwarded", arrives)
	switch s.nat {
	case FullCone:
		r.add("%s dnat to udp dport map @inside", arrives)
	case AddrRestricted:
		r.add("%s ip saddr . udp dport @asked dnat to udp dport map @inside", arrives)
	}
	if s.options.Hairpin {
		r.add("meta mark %s meta l4proto udp dnat to udp dport map @forwarded", hairpinMark)
		r.add("meta mark %s meta l4proto udp dnat to udp dport map @inside", hairpinMark)
	}
	r.end()

	// Source: departing packets that belong to no flow.
	r.chain("nat", "postrouting", "srcnat")
	s.sourceRules(&r, `oifname "wan0"`)
	if s.options.Hairpin {
		s.sourceRules(&r, fmt.Sprintf(`meta mark %s ct status dnat oifname != "wan0"`, hairpinMark))
	}
	r.end()

	// After translation: note what the kernel chose.
	r.chain("filter", "postrouting", "srcnat + 50")
	noteRules(&r, `oifname "wan0"`)
	if s.options.Hairpin {
		noteRules(&r, "meta mark "+hairpinMark)
	}
	r.end()
	r.end()
	return r.String()
}

// natMaps declares what the NAT remembers.
func (s *Site) natMaps(r *script, forwards []forward) {
	timeout := s.timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	dynamic := fmt.Sprintf("flags dynamic,timeout; timeout %ds; size 65536;", int(timeout/time.Second))
	r.add("map inside { type inet_service : ipv4_addr . inet_service; %s }", dynamic)  // outside port → inside endpoint
	r.add("map outside { type ipv4_addr . inet_service : inet_service; %s }", dynamic) // and back
	r.add("set taken { type inet_service; %s }", dynamic)                              // outside ports
	r.add("set asked { type ipv4_addr . inet_service; %s }", dynamic)                  // remote address, outside port
	r.add("set recent { type ipv4_addr . inet_service . inet_service; %s }", dynamic)  // remote endpoint, outside port
	var in, out []string
	for _, f := range forwards {
		in = append(in, f.element())
		out = append(out, f.reverse())
	}
	elements := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return " elements = { " + strings.Join(list, ", ") + " };"
	}
	r.add("map forwarded { type inet_service : ipv4_addr . inet_service; flags timeout;%s }", elements(in))
	r.add("map forwardedout { type ipv4_addr . inet_service : inet_service; flags timeout;%s }", elements(out))
}

// sourceRules choose the outside port of the flows that match.
func (s *Site) sourceRules(r *script, match string) {
	udp := func(format string, args ...any) {
		r.add("%s meta l4proto udp %s", match, fmt.Sprintf(format, args...))
	}
	udp("snat to %s : ip saddr . udp sport map @forwardedout", s.outside)
	if s.nat.strict() {
		udp("snat to %s : ip saddr . udp sport map @outside", s.outside)
	}
	switch {
	case s.nat == Symmetric:
		udp("snat to %s fully-random", s.outside)
	case s.nat == SymmetricSequential:
		// A map, as nft takes the bytes of a computed port in the other order.
		const ports = 500
		first := 40000 + s.generation%40*ports
		var m strings.Builder
		for i := range ports {
			fmt.Fprintf(&m, "%d : %d, ", i, first+i)
		}
		udp("snat to %s : numgen inc mod %d map { %s }", s.outside, ports, m.String())
	case s.nat == SymmetricAddr:
		udp("snat to %s : jhash ip saddr . udp sport . ip daddr mod 30000 seed %d offset 20000", s.outside, s.generation+7)
	case s.generation > 0: // after a rebind: not the ports of before
		udp("snat to %s : jhash ip saddr . udp sport mod 30000 seed %d offset 20000", s.outside, s.generation)
	case s.nat.strict():
		udp("udp sport @taken snat to %s:20000-59999 fully-random", s.outside)
	}
	r.add("%s snat to %s", match, s.outside)
}

// noteRules keep the maps up to date with the packets that match, of flows
// that began inside (original) and outside (reply).
func noteRules(r *script, match string) {
	udp := func(rule string) { r.add("%s meta l4proto udp %s", match, rule) }
	for _, d := range []string{"original", "reply"} {
		udp(fmt.Sprintf("ct direction %s update @inside { udp sport : ct %s ip saddr . ct %s proto-src }", d, d, d))
		udp(fmt.Sprintf("ct direction %s update @outside { ct %s ip saddr . ct %s proto-src : udp sport }", d, d, d))
	}
	udp("update @taken { udp sport }")
	udp("update @asked { ip daddr . udp sport }")
	udp("update @recent { ip daddr . udp dport . udp sport }")
}

// filterRules is the table that says what passes the site's router.
func (s *Site) filterRules() string {
	var r script
	r.replace("inet", "filter")
	r.chain("filter", "input", "filter")
	if !s.nat.public() && s.nat != LinuxOpen {
		r.add(`iifname "wan0" ct state established,related accept`)
		r.add(`iifname "wan0" meta l4proto ipv6-icmp accept`)
		r.add(`iifname "wan0" icmp type echo-request accept`)
		r.add(`iifname "wan0" drop`)
		r.add(`iifname != "wan0" ip daddr %s meta l4proto udp drop`, s.outside)
	}
	r.end()
	r.chain("filter", "forward", "filter")
	if s.nat == UDPBlocked {
		r.add(`oifname "wan0" tcp dport 443 accept`)
		r.add(`oifname "wan0" meta l4proto { icmp, ipv6-icmp } accept`)
		r.add(`oifname "wan0" drop`)
	}
	if s.noUDP {
		r.add("meta l4proto udp drop")
	}
	if !s.nat.public() {
		r.add(`meta nfproto ipv4 iifname "wan0" ct state established,related accept`)
		r.add(`meta nfproto ipv4 iifname "wan0" ct status dnat accept`)
		r.add(`meta nfproto ipv4 iifname "wan0" drop`)
	}
	if s.nat == Firewall || s.options.V6 == FirewalledV6 {
		r.add(`iifname "wan0" ct state established,related accept`)
		r.add(`iifname "wan0" icmp type echo-request accept`)
		r.add(`iifname "wan0" icmpv6 type { packet-too-big, time-exceeded, echo-request } accept`)
		if s.nat == Firewall {
			r.add(`iifname "wan0" drop`)
		} else {
			r.add(`meta nfproto ipv6 iifname "wan0" drop`)
		}
	}
	r.end()
	r.end()
	return r.String()
}
