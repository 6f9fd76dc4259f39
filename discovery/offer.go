package discovery

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"nexd/key"
)

// offer is what a peer that wants to talk tells: where it may be reached, and
// when checks begin. Big endian:
//
//	offset  bytes
//	0       1     1: an offer
//	1       1     flags: bit 0 an answer is wanted; bit 1 the sender probes hard NATs; bit 2 a
//	              round of guesses is proposed, or, in the answer, agreed to (see prober);
//	              other bits 0 when sent, ignored when read
//	2       1     kind of NAT: 0 unknown, 1 open, 2 easy, 3 hard, 4 blocked
//	3       1     number of relays, at most 4
//	4       2     start delay in ms: the sender of the offer begins its checks this long after sending
//	6       2     number of candidates
//	8       8     epoch of the sender
//	16      8     sequence within the epoch, its own count
//	24      8     the newest epoch the sender knows of the receiver; 0: none
//	32            candidates, best first:
//	        1     kind: 1 host, 2 server-reflexive, 3 static, 4 peer-reflexive, 5 hint, 6 mapped, 7 predicted
//	        1     address family: 4 or 6
//	        2     port
//	        4     priority (RFC 8445)
//	        4|16  address
//	              relays the sender has sessions with, its home first:
//	        32    public key
//
// Bytes after that belong to later versions and are ignored. More than 16
// candidates may be announced; the first 16 are read, and no relays then.
type offer struct {
	WantReply  bool
	PunchHard  bool
	HardRound  bool
	NAT        uint8
	StartDelay time.Duration // whole ms, less than 65.536 s
	Epoch, Seq uint64
	PeerEpoch  uint64
	Candidates []candidate
	Relays     []key.Public
}

const (
	offerType       = 1
	offerHeaderSize = 32
	flagWantReply   = 1
	flagPunchHard   = 2
	flagHardRound   = 4
	maxOfferRelays  = 4
)

var errOffer = errors.New("malformed offer")

// appendTo appends the offer's bytes. Invalid candidates and those past the
// 16th are left out.
func (o *offer) appendTo(b []byte) []byte {
	at := len(b)
	b = append(b, offerType, 0, o.NAT, 0)
	if o.WantReply {
		b[at+1] |= flagWantReply
	}
	if o.PunchHard {
		b[at+1] |= flagPunchHard
	}
	if o.HardRound {
		b[at+1] |= flagHardRound
	}
	delay := min(max(o.StartDelay.Milliseconds(), 0), 1<<16-1)
	b = binary.BigEndian.AppendUint16(b, uint16(delay))
	b = append(b, 0, 0) // the number of candidates
	b = binary.BigEndian.AppendUint64(b, o.Epoch)
	b = binary.BigEndian.AppendUint64(b, o.Seq)
	b = binary.BigEndian.AppendUint64(b, o.PeerEpoch)
	n := uint16(0)
	for _, c := range o.Candidates {
		ip := c.Addr.Addr().Unmap()
		if !ip.IsValid() || n == maxCandidates {
			continue
		}
		family := byte(6)
		if ip.Is4() {
			family = 4
		}
		b = append(b, byte(c.Kind), family)
		b = binary.BigEndian.AppendUint16(b, c.Addr.Port())
		b = binary.BigEndian.AppendUint32(b, c.Priority)
		b = append(b, ip.AsSlice()...)
		n++
	}
	binary.BigEndian.PutUint16(b[at+6:], n)
	relays := o.Relays[:min(len(o.Relays), maxOfferRelays)]
	b[at+3] = byte(len(relays))
	for _, r := range relays {
		b = append(b, r.Bytes()...)
	}
	return b
}

// parseOffer reads an offer; it keeps nothing of b. The addresses are as the
// sender says: the caller filters them.
func parseOffer(b []byte) (offer, error) {
	if len(b) < offerHeaderSize || b[0] != offerType {
		return offer{}, errOffer
	}
	o := offer{
		WantReply:  b[1]&flagWantReply != 0,
		PunchHard:  b[1]&flagPunchHard != 0,
		HardRound:  b[1]&flagHardRound != 0,
		NAT:        b[2],
		StartDelay: time.Duration(binary.BigEndian.Uint16(b[4:])) * time.Millisecond,
		Epoch:      binary.BigEndian.Uint64(b[8:]),
		Seq:        binary.BigEndian.Uint64(b[16:]),
		PeerEpoch:  binary.BigEndian.Uint64(b[24:]),
	}
	announced, relays := int(binary.BigEndian.Uint16(b[6:])), int(b[3])
	b = b[offerHeaderSize:]
	for range min(announced, maxCandidates) {
		if len(b) < 8 {
			return offer{}, errOffer
		}
		size := 16
		if b[1] == 4 {
			size = 4
		} else if b[1] != 6 {
			return offer{}, errOffer
		}
		if len(b) < 8+size {
			return offer{}, errOffer
		}
		ip, _ := netip.AddrFromSlice(b[8 : 8+size])
		o.Candidates = append(o.Candidates, candidate{
			Addr:     netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(b[2:])),
			Kind:     kind(b[0]),
			Priority: binary.BigEndian.Uint32(b[4:]),
		})
		b = b[8+size:]
	}
	if announced > maxCandidates {
		return o, nil
	}
	for range min(relays, maxOfferRelays) {
		if len(b) < key.Size {
			return offer{}, errOffer
		}
		k, err := key.PublicFromBytes(b[:key.Size])
		if err != nil {
			return offer{}, errOffer
		}
		o.Relays = append(o.Relays, k)
		b = b[key.Size:]
	}
	return o, nil
}
