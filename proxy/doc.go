// Package proxy joins the mesh and the host at layer 4: it listens where a
// rule says, dials where the rule says, and copies streams and datagrams
// between the two.
//
// It is not a network stack and keeps no rules over restarts: the mesh is a
// [Mesh] given to it, the rules are what [Engine.Apply] was given last.
//
// Direction is data. A rule has two ends, each a side: an ingress rule listens
// in the mesh and dials the host, an egress rule the reverse; everything between
// accept and close is one forwarder.
//
// In reading order: [Engine] holds a listening group per rules.ListenKey
// (group.go), whose rules share its listeners and balance (balance.go); a group
// hands accepted connections to forwardStream (stream.go) and datagrams to its
// flow table (flows.go, flow.go); side.go, hostside.go and meshside.go are the
// two ends; dns.go resolves names for the mesh.
//
// # States of a rule
//
//	failed ── listening ── degraded      a rule goes from any state to any other
//
//	failed     it does not listen: a port in use, a missing address or privilege,
//	           a destination name that never resolved. Tried again after 1 s,
//	           doubling up to 30 s, and at once when the directory changes.
//	listening  it listens and nothing speaks against its destination.
//	degraded   it listens, but the last attempt to reach the destination failed, or
//	           an address it should also listen on is not available.
//
// # Bounds
//
//	connections (udp: flows) per rule      10,000 (udp: 4,096), or max-conns
//	of these from one source address       half of it, at least 5,000 (udp: 1,024);
//	(ingress)                              never below a smaller max-conns
//	connections being dialled, per rule    256; more wait within the dial timeout
//	one attempt to dial                    10 s, or dial-timeout
//	datagrams waiting for a flow's dial    16 per flow
//	answers waiting for room (Linux)       56 MB in all, and one datagram per flow
//
// A connection over a bound is reset when it is accepted. A flow over the bound
// of its rule replaces the flow that was quiet for the longest time; one over
// the bound of its source is dropped. All of it is counted in [Stats].
//
// # Balancing
//
// Rules of one listening key take connections in turn. A destination that
// cannot be dialled is skipped and tried again with a later connection, after
// 1 s, doubling up to 30 s; when every destination is in that state they are
// tried all the same. If none can be dialled the client's connection is reset.
//
// # The end
//
// A rule that is removed stops accepting; its connections have the drain
// timeout to finish and are then closed. Its UDP flows end at once. The engine
// ends the same way, except that UDP flows may answer until they have been quiet
// for a second. See package duplex for what each side of a stream is told.
package proxy
