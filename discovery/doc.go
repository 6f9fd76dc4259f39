// Package discovery decides which way packets to each peer go, and keeps looking
// for a better one while networks change: a relay at once, where there is one;
// a direct address as soon as one is proved; the relay again, and both meanwhile,
// when it falls silent.
//
// It is ICE (RFC 8445) cut to one component per peer, on the very socket
// WireGuard uses, with the roles and nominations left out: each side checks all
// candidates of the other and sends on the path it finds best. A direct path is
// used only after a connectivity check has passed over it, and a check proves the
// pair of device keys, not mere reachability. Relays are addresses like others
// (package relaypath) and are checked from end to end, too.
//
//	       offers (sealed; by a relay, by the service)        checks, STUN (UDP, relays)
//	HandleOffer, HandleSignal │ Socket.WriteRelay, Signal  HandleSTUN │ Socket.WriteSTUN, WriteRelay, WriteWhole
//	                          ▼                                       ▼
//	SetPeers, SetRelays, Want ──► inbox ──► Agent.Run: the one goroutine that owns all state
//	                                            │        │         │
//	                                        machine   stunClient  local addresses
//	                                     (one a peer)
//	                                            ▼
//	                        Paths.SetRoute, UseRelay, Activate, OnMTU, OnChange, OnHints
//
// Main types, in reading order:
//
//   - [Config], [Agent]: the edges and the loop.
//   - machine: one peer. It does no I/O: (event, now) → actions.
//   - sizer: how large packets may be on a path, found by checks padded to a size.
//   - offer: what peers tell each other; its byte table stands at its codec.
//   - stunClient: server-reflexive addresses and the kind of NAT, without I/O too.
//   - prober: ports of hard NATs, guessed where both sides allow it.
//   - secrets: the keys of a pair and the hint that finds them.
//
// What is foreign stays bounded: every queue, table and rate has its number next
// to it, and what does not verify is not answered.
//
// The package does not know WireGuard, the service or the tunnel, and moves no data.
package discovery
