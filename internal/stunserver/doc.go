// Package stunserver answers STUN binding requests (RFC 8489) over UDP: it
// tells whoever asks the address the question came from. It does nothing else:
// no authentication, no other method, no second address (RFC 5780).
//
// [Server] is all there is: New, Run, Stats.
//
// # What it costs others
//
// The source of a UDP packet can be forged, so every answer may hit a stranger.
// A bare request has 20 bytes and its answer 32 (IPv4) or 44 (IPv6); with a
// fingerprint 28, and 40 or 52. The address in the answer is what it is for, so
// it cannot be left out: the largest amplification is 1.6 for IPv4 and 2.2 for
// IPv6 (bytes of UDP payload; 1.25 and 1.35 with the headers of IP and UDP), one
// packet for one packet. Nothing optional is ever added. The error for unknown
// attributes is never more than 1.5 times its request. Above that stand two
// budgets: one per source (an IPv4 /32 or an IPv6 /64) and one in all; what is
// over them is dropped and counted. Sources beyond the size of the table share
// budgets, so a flood from many forged sources can delay honest ones, but
// neither grow memory nor raise the rate.
package stunserver
