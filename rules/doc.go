// Package rules is the language in which a person says which layer-4
// connections the proxy carries. It parses, prints and compares rules; it
// opens no socket, resolves no name and knows no device.
//
//	PROTO:[BIND:]PORT:HOST:PORT[,OPTION=VALUE]...
//	PROTO:[BIND:]PORT:unix:/path[,OPTION=VALUE]...
//
// Types in reading order:
//
//   - [Direction]: an ingress rule listens in the mesh and dials the host, an
//     egress rule the reverse.
//   - [Rule]: one listening port and one destination, with its [Target],
//     [Options] and [Allow] entries.
//   - [Parse] turns text into a [Spec], what the person wrote: one rule, or a
//     range of ports that stands for one rule each. Spec.String is its inverse.
//   - [Set] holds the rules of a node in order, refuses duplicates and
//     conflicts, and tells two states apart ([Difference]).
//   - [Error] names the wrong place and the right form.
//
// # The text
//
// PROTO is tcp or udp, in any case. PORT is 1 to 65535 in plain decimal, or a
// range FIRST-LAST of at most [MaxRange] ports; the destination then is a range
// of the same size, and the ports pair up in order. Addresses are IPv4 or
// IPv6 in brackets, without a zone. HOST may be a DNS name (letters, digits,
// hyphens, underscores); an ingress rule resolves it on this host, an egress
// rule among the mesh devices and then in DNS. A unix socket is a destination
// of this host, so it stands in ingress rules only, and takes tcp.
// A rule has no spaces, and a socket path no comma.
//
// BIND of an egress rule is an address of this host; without it the rule
// listens on 127.0.0.1 and [::1]. 0.0.0.0 is every IPv4 address and [::] every
// address of both families. BIND of an ingress rule is one of this device's
// mesh addresses, which only the running node can check; without it the rule
// listens on all of them.
//
// Options, each at most once except allow:
//
//	allow=NAME|tag:NAME|CIDR   who may connect; without it everybody who can reach the port.
//	                           Names and tags are those of mesh devices, so an egress rule,
//	                           whose clients are hosts, takes addresses only.
//	proxy-protocol=v1|v2       header sent to the destination (tcp)
//	max-conns=N                connections (udp: flows) of one port's rule at a time
//	dial-timeout=5s            for one attempt, with name resolution
//	idle-timeout=1m            a connection without a byte in either direction ends
//
// # The canonical form
//
// Spec.String prints protocol and names in lower case, options in the order
// above, allow entries sorted and without repetition (addresses, names, tags),
// single addresses as /32 or /128, and durations without zero parts. Parsing
// it gives an equal Spec; equal Specs have equal text.
//
// # Duplicates and conflicts
//
// Rules of different direction or protocol never meet. Among rules of one
// direction, protocol and port:
//
//   - the same BIND and the same destination is a duplicate, whatever the options;
//   - the same BIND and another destination balance. They share one listener, so
//     their allow must be the same; every other option belongs to the
//     connection made and may differ;
//   - different BINDs conflict when one address would be listened on twice:
//     0.0.0.0 with an IPv4 address, [::] with any, no BIND in an egress rule
//     with either loopback address or with 0.0.0.0 or [::], no BIND in an
//     ingress rule with any BIND.
package rules
