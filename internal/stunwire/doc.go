// Package stunwire reads and writes the STUN messages (RFC 8489) of this
// program: bytes in, bytes out, no I/O and no state. The attributes are walked
// by github.com/pion/stun; what it lacks, and what must be stricter for us,
// stands here. Only the Binding method exists.
//
// Two uses share the format:
//
//   - a STUN client and server: [AppendRequest], [AppendSuccess], [AppendError];
//   - connectivity checks between two peers: [AppendCheck], [AppendCheckReply],
//     [AppendCheckStale], proved by a key of the pair with [Message.Verify].
//
// [Parse] reads all of them. A check is a binding request of exactly 104 bytes:
//
//	offset  bytes
//	0       20     header: type 0x0001, length 84, cookie 0x2112A442, transaction id
//	20      4+8    USERNAME: the hint, 8 opaque bytes that name the pair and the direction
//	32      4+4    PRIORITY (RFC 8445) of the path as the sender sees it
//	40      4+16   0xFE4E, ours, comprehension-optional: epoch (8), sequence (8), big endian
//	60      4+32   MESSAGE-INTEGRITY-SHA256, never truncated
//	96      4+4    FINGERPRINT
//
// A padded check shows that so long a packet passes: at 60, before the integrity,
// it has the attribute 0xFE4F, ours, comprehension-optional: zero bytes, as many
// as make the message the length wanted, up to 8,952. No other message may be
// longer than 548 bytes.
//
// The answer to both is a success response with XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY-SHA256
// and FINGERPRINT (76 bytes for IPv4, 88 for IPv6), or, when the epoch is older
// than one seen before, an error response 438 with the newest epoch (92 bytes):
// never longer than the check. What does not verify gets no answer.
//
// Epoch and sequence are against replay: a device takes a new epoch at each
// start and counts within it.
package stunwire
