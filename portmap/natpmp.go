package portmap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The messages of NAT-PMP (RFC 6886 sections 3.2 and 3.3), numbers big endian:
//
//	request                       answer
//	0  1  version, 0              0  1  version, 0
//	1  1  operation               1  1  operation + 128
//	                              2  2  result
//	                              4  4  epoch, seconds
//	of a mapping                  of a mapping
//	2  2  zero
//	4  2  port inside             8  2  the same
//	6  2  wanted port outside     10 2  port outside
//	8  4  lifetime, seconds       12 4  lifetime, seconds
//	                              of the address
//	                              8  4  address outside
//
// The answer about the address is also sent to all hosts, when it changed or the
// gateway forgot its mappings.
const (
	pmpAddress = 0
	pmpMapUDP  = 1

	pmpAddressLen = 12
	pmpMapLen     = 16

	pmpBadVersion = 1
)

// pmpRequest asks for a mapping; lifetime 0 ends it.
type pmpRequest struct {
	inside, wanted uint16 // ports; wanted 0: any
	lifetime       uint32 // seconds
}

func (r pmpRequest) appendTo(b []byte) []byte {
	b = append(b, 0, pmpMapUDP, 0, 0)
	b = binary.BigEndian.AppendUint16(b, r.inside)
	b = binary.BigEndian.AppendUint16(b, r.wanted)
	return binary.BigEndian.AppendUint32(b, r.lifetime)
}

// pmpAnswer is what a gateway says: address, or port and lifetime.
type pmpAnswer struct {
	result   pmpResult
	epoch    uint32 // seconds
	address  netip.Addr
	port     uint16
	lifetime uint32 // seconds
}

// parsePMPAddress reads the answer about the address.
func parsePMPAddress(b []byte) (pmpAnswer, error) {
	a, err := parsePMP(b, pmpAddress, pmpAddressLen)
	if err == nil && a.result == 0 {
		a.address = netip.AddrFrom4([4]byte(b[8:12]))
	}
	return a, err
}

// parsePMPMap reads the answer about the mapping of a port.
func parsePMPMap(b []byte, inside uint16) (pmpAnswer, error) {
	a, err := parsePMP(b, pmpMapUDP, pmpMapLen)
	if err != nil || a.result != 0 {
		return a, err
	}
	if binary.BigEndian.Uint16(b[8:]) != inside {
		return pmpAnswer{}, errNotAnswer
	}
	a.port, a.lifetime = binary.BigEndian.Uint16(b[10:]), binary.BigEndian.Uint32(b[12:])
	return a, nil
}

// parsePMP reads what all answers have; one with an error may be short.
func parsePMP(b []byte, op byte, length int) (pmpAnswer, error) {
	if len(b) < 8 || b[0] != 0 || b[1] != answerBit|op {
		return pmpAnswer{}, errNotAnswer
	}
	a := pmpAnswer{result: pmpResult(binary.BigEndian.Uint16(b[2:])), epoch: binary.BigEndian.Uint32(b[4:])}
	if a.result == 0 && len(b) != length {
		return pmpAnswer{}, errNotAnswer
	}
	return a, nil
}

// pmpResult is a result code of RFC 6886 section 3.5.
type pmpResult uint16

var pmpResults = [...]string{"done", "another version", "not authorized", "network failure", "no resources", "unknown operation"}

func (r pmpResult) String() string {
	if int(r) < len(pmpResults) {
		return pmpResults[r]
	}
	return fmt.Sprintf("error %d", uint16(r))
}
