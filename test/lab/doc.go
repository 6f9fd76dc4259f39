//go:build linux

// Package lab builds networks with NATs of every kind out of network
// namespaces and nftables: sites with routers and nodes, joined by a public
// core. Nothing leaves the machine.
//
//   - [New] makes a [Lab]: the core, and a public host with a STUN server that
//     tells what RFC 5780 asks for. The test's end removes it.
//   - [Lab.Site] adds a site of some [Kind] with [Options]: several nodes,
//     hairpin, IPv6, a given LAN, port mapping. [Lab.Carrier] is a NAT that
//     other sites sit behind.
//   - [Node] is a host at a site; test/netns says how programs and sockets run
//     in it, and cluster.Over with Adopt run the real binaries there.
//   - Things happen: [Site.Rebind], [Site.Flush], [Site.Roam], [Site.UDPBlock],
//     [Site.LinkDown], [Site.Latency], [Site.Rate], [Site.Timeout],
//     [Site.Collect], [Site.MTU], [Site.LANMTU], [Site.Mute], [Lab.Block],
//     [Lab.BlockOneWay], [Lab.Move].
//   - [Node.Behaviour] measures mapping, filtering, ports and hairpin;
//     [Pair] punches holes with plain sockets. The tests hold every kind and
//     every pair of kinds to what it claims, and [Punchable] to the theory.
//   - [Node.Watch] counts what passes a node's cable, by kind.
//   - [Session] stands in for a test in a program that builds a lab.
//
// Addresses: the core has .1 of each link. Site i has 198.18.i.0/24 outside,
// 192.168.(100+i).0/24 inside and 2001:db8:i::/48; a site without NAT has its
// nodes in 198.18.i.0/24, and 198.19.i.0/24 between its router and the core.
// Carriers give out 100.64.0.0/10, a /24 to each home. The STUN server has
// 192.0.2.10 and 198.51.100.10, ports 3478 and 3479.
//
// What changes the network is for one goroutine at a time; measuring and
// running programs is for any number.
//
// By hand: make lab LAB='a=full-cone b=symmetric,nodes=2' builds a lab and
// reads commands; help lists them. See test/lab/natlab.
//
// # How the kinds are made
//
// Linux source NAT keeps ports, filters by address and port, and has one
// mapping for all destinations as long as ports do not clash. The other kinds
// are made of it: a chain after source NAT notes in nftables maps which inside
// endpoint has which outside port and whom it sent to. Arriving packets are
// led inside by these maps (EIF, or ADF with the note), and departing ones
// find their old port there, whatever conntrack would choose. Symmetric kinds
// choose the port anew for each flow.
//
// Inbound packets refresh a mapping, as Linux does; with
// [Options.OutboundRefresh] only outbound ones do. A hairpin is endpoint-
// independent and shows the external source. What Linux cannot do is not
// here: NATs that forget a mapping after an ICMP error, address pools, NAT64.
package lab
