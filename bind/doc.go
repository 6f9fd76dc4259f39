// Package bind is the node's one UDP socket: WireGuard, STUN and the relays'
// clients share it, so that a NAT's mapping learnt by one is everybody's.
//
// A [Bind] stands between wireguard-go's device and a pair of sockets, one for
// IPv4 and one for IPv6 (sockets.go: many packets a system call, where there is
// recvmmsg, sendmmsg, UDP GSO and GRO):
//
//	                      WireGuard's device
//	       Send ▼                                  ▲ ReceiveFuncs
//	┌───────────────────────┐         ┌──────────────────────────────┐ ─▶ OnSTUN
//	│ the peer's route,     │         │ sort by first bytes;         │ ─▶ OnOffer
//	│ repeats of handshakes │         │ frames: Relays.HandleUDP     │ ─▶ OnHeard
//	└───────────────────────┘         └──────────────────────────────┘
//	   │ address      │ relay             ▲                   ▲
//	   │              ▼                   │              ring of 512
//	   │         Relays.Send ─▶ TLS       │                ▲     ▲
//	   ▼              ▼ WriteUDP          │         Deliver│     │readers
//	   the socket, or the extra one ──────┘      TLS ─▶ Relays   extra sockets
//	   of that address (AddSocket)
//
// It does what the plain socket does not:
//
//   - It sorts what arrives (the table below), and takes packets out of relays' frames.
//   - It chooses where a packet goes. WireGuard knows a peer as one [Endpoint]
//     that never changes; which addresses or relays that means is set by
//     [Bind.SetRoute], so a change of path costs no handshake and WireGuard's
//     roaming has no say. A relay is an address like others (internal/relaypath).
//   - It gets handshakes through: over two ways where there are two, again when
//     no answer comes, held while there is no path, and one of two that cross.
//     WireGuard alone takes five seconds for each of these.
//   - It keeps errors from WireGuard: on UDP they are packet loss.
//
// A received datagram is one of these, by its first bytes (RFC 7983 does the
// same for other protocols):
//
//	byte 0      then                                       is
//	1–4         three zero bytes, 32 bytes or more         WireGuard
//	0–3         magic cookie at 4, length at 2 = size-20   STUN (RFC 8489 section 5)
//	192–255     anything                                   a relay's frame: to Relays
//	            everything else                            nothing of ours
//
// A packet that came in such a frame, or by [Bind.Deliver], is one of these:
//
//	byte 0      then                                       is
//	1–4, 0–3    as above                                   WireGuard, STUN
//	0x60        anything                                   an offer, sealed to us
//	            everything else                            nothing of ours
//
// What WireGuard is spared: a copy of a handshake message it has (its workers
// would race for the two), and of two initiations that cross the smaller one
// (it would answer both and could use neither session).
//
// The package does not look for paths (that is discovery), holds no keys and
// authenticates nothing: a source address it reports may be forged, and whose
// packet it is that came through a relay is the relay's word.
//
// Reading order: [Bind], [Endpoint], [Route], [Bind.Send], repeat.go,
// receive.go, [Relays], [Bind.AddSocket], [Activity], [Stats], sockets.go.
package bind
