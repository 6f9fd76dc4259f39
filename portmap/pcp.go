package portmap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A MAP request of PCP (RFC 6887 sections 7.1 and 11.1) and its answer (7.2),
// numbers big endian, IPv4 addresses as IPv4-mapped IPv6 (5):
//
//	request                        answer
//	0  1  version, 2               0  1  version
//	1  1  operation: 1             1  1  operation + 128
//	2  2  zero                     2  1  zero
//	                               3  1  result
//	4  4  lifetime, seconds        4  4  lifetime; of an error: time to wait
//	8  16 address of the client    8  4  epoch, seconds
//	                               12 12 zero
//	24 12 nonce                    24 12 the same
//	36 1  protocol: 17             36 1  the same
//	37 3  zero                     37 3  zero
//	40 2  port inside              40 2  the same
//	42 2  wanted port outside      42 2  port outside
//	44 16 wanted address outside   44 16 address outside
//
// Options may follow an answer. An announcement (14.1) is an answer of 24 bytes
// to operation 0, sent to all hosts.
const (
	gatewayPort  = 5351 // of PCP and NAT-PMP
	announcePort = 5350 // at the hosts

	pcpVersion   = 2
	pcpAnnounce  = 0
	pcpMap       = 1
	answerBit    = 128
	protocolUDP  = 17
	pcpHeaderLen = 24
	pcpMapLen    = 60
	pcpMaxLen    = 1100
)

// nonce ties the answers, and later changes, of a mapping to who asked for it.
type nonce [12]byte

// pcpRequest asks for a mapping; lifetime 0 ends it.
type pcpRequest struct {
	client   netip.Addr
	nonce    nonce
	inside   uint16
	wanted   netip.AddrPort // outside; the zero value: any
	lifetime uint32         // seconds
}

func (r pcpRequest) appendTo(b []byte) []byte {
	b = append(b, pcpVersion, pcpMap, 0, 0)
	b = binary.BigEndian.AppendUint32(b, r.lifetime)
	b = appendAddr16(b, r.client)
	b = append(b, r.nonce[:]...)
	b = append(b, protocolUDP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, r.inside)
	b = binary.BigEndian.AppendUint16(b, r.wanted.Port())
	wanted := r.wanted.Addr()
	if !wanted.IsValid() { // any, of the client's version
		if wanted = netip.IPv6Unspecified(); r.client.Is4() {
			wanted = netip.IPv4Unspecified()
		}
	}
	return appendAddr16(b, wanted)
}

func appendAddr16(b []byte, a netip.Addr) []byte {
	wide := a.As16()
	return append(b, wide[:]...)
}

// pcpAnswer is what a gateway says.
type pcpAnswer struct {
	result   pcpResult
	lifetime uint32 // seconds
	epoch    uint32 // seconds
	external netip.AddrPort
}

// parsePCP reads the answer to a request. It fails for what is none: another
// version (errOldGateway), operation, nonce, protocol or port, or a wrong length.
func parsePCP(b []byte, r pcpRequest) (pcpAnswer, error) {
	if isOldAnswer(b) {
		return pcpAnswer{}, errOldGateway
	}
	if len(b) < pcpMapLen || len(b) > pcpMaxLen || len(b)%4 != 0 || b[0] != pcpVersion || b[1] != answerBit|pcpMap {
		return pcpAnswer{}, errNotAnswer
	}
	if !bytes.Equal(b[24:36], r.nonce[:]) || b[36] != protocolUDP || binary.BigEndian.Uint16(b[40:]) != r.inside {
		return pcpAnswer{}, errNotAnswer
	}
	a := pcpAnswer{
		result:   pcpResult(b[3]),
		lifetime: binary.BigEndian.Uint32(b[4:]),
		epoch:    binary.BigEndian.Uint32(b[8:]),
		external: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[44:60])).Unmap(), binary.BigEndian.Uint16(b[42:])),
	}
	if a.result == 0 && a.external.Addr().Is4() != r.client.Is4() {
		return pcpAnswer{}, errNotAnswer
	}
	return a, nil
}

// isOldAnswer reports whether a gateway says that it speaks NAT-PMP or an older
// PCP only (RFC 6887 section 9, RFC 6886 section 3.5).
func isOldAnswer(b []byte) bool {
	return len(b) >= 4 && b[0] < pcpVersion && b[1]&answerBit != 0 && binary.BigEndian.Uint16(b[2:]) == pmpBadVersion
}

// pcpResult is a result code of RFC 6887 section 7.4.
type pcpResult uint8

var pcpResults = [...]string{
	"done", "another version", "not authorized", "malformed request", "unknown operation", "unknown option", "malformed option",
	"network failure", "no resources", "UDP is not mapped", "quota used up", "cannot provide the address", "another NAT in between", "too many peers",
}

func (r pcpResult) String() string {
	if int(r) < len(pcpResults) {
		return pcpResults[r]
	}
	return fmt.Sprintf("error %d", uint8(r))
}
