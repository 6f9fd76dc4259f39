// Package bind is the node's one UDP socket: WireGuard and everything else
// share it, so that a NAT's mapping learnt by STUN is the mapping WireGuard uses.
//
// A [Bind] stands between wireguard-go's device and wireguard-go's own batched
// socket (conn.StdNetBind: recvmmsg, sendmmsg, UDP GSO and GRO stay). It does
// three things the plain socket does not:
//
//   - It sorts what arrives. WireGuard's packets go on, STUN goes to
//     [Config.OnSTUN], the rest is dropped and counted.
//   - It chooses where a packet goes. WireGuard knows a peer as one [Endpoint]
//     that never changes; which address that means is set by [Bind.SetPath], so
//     a change of path costs no handshake and WireGuard's roaming has no say.
//   - It keeps socket errors from WireGuard: on UDP they are packet loss.
//
// A received datagram is one of these, by its first bytes (RFC 7983 does the
// same for other protocols):
//
//	byte 0      then                                       is
//	1–4         three zero bytes, 32 bytes or more         WireGuard
//	0–3         magic cookie at 4, length at 2 = size-20   STUN (RFC 8489 section 5)
//	192–255     anything                                   a relay's frame (dropped for now)
//	            everything else                            nothing of ours
//
// The package does not look for paths (that is discovery), holds no keys and
// authenticates nothing: a source address it reports may be forged.
//
// Reading order: [Bind], [Endpoint], [Bind.Send], [Bind.SetPath], [Activity], [Stats].
package bind
