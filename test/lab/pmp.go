//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"
)

// The messages of NAT-PMP (RFC 6886 section 3), numbers big endian:
//
//	request                       answer
//	0  1  version, 0              0  1  version, 0
//	1  1  operation               1  1  operation + 128
//	                              2  2  result
//	                              4  4  epoch, seconds
//	of a mapping                  of a mapping
//	4  2  port inside             8  2  port inside
//	6  2  wanted port outside     10 2  port outside
//	8  4  lifetime, seconds       12 4  lifetime, seconds
//	                              of the address
//	                              8  4  address outside
const (
	pmpServerPort = 5351
	pmpClientPort = 5350

	pmpAddress = 0 // operations
	pmpMapUDP  = 1
	pmpReply   = 128

	pmpBadVersion     = 1 // results
	pmpNetworkFailure = 3
	pmpNoResources    = 4
	pmpBadOp          = 5
)

// pmpRequest is what a client asks.
type pmpRequest struct {
	version, op    byte
	inside, wanted uint16 // ports of a mapping
	lifetime       uint32 // in seconds; 0: end it
}

// parsePMP reads a request; false for what gets no answer.
func parsePMP(b []byte) (r pmpRequest, ok bool) {
	if len(b) < 2 || b[1] >= pmpReply {
		return r, false
	}
	r.version, r.op = b[0], b[1]
	if r.version == 0 && r.op == pmpMapUDP {
		if len(b) < 12 {
			return r, false
		}
		r.inside, r.wanted = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
		r.lifetime = binary.BigEndian.Uint32(b[8:])
	}
	return r, true
}

// pmpAnswer is what the router says.
type pmpAnswer struct {
	op           byte // of the request
	result       uint16
	epoch        uint32
	outside      netip.Addr // answers pmpAddress
	inside, port uint16     // answer pmpMapUDP, with lifetime
	lifetime     uint32
}

func (a pmpAnswer) append(b []byte) []byte {
	b = append(b, 0, a.op+pmpReply)
	b = binary.BigEndian.AppendUint16(b, a.result)
	b = binary.BigEndian.AppendUint32(b, a.epoch)
	switch {
	case a.result == pmpBadVersion || a.result == pmpBadOp:
	case a.op == pmpAddress:
		b = append(b, a.outside.AsSlice()...)
	case a.op == pmpMapUDP:
		b = binary.BigEndian.AppendUint16(b, a.inside)
		b = binary.BigEndian.AppendUint16(b, a.port)
		b = binary.BigEndian.AppendUint32(b, a.lifetime)
	}
	return b
}
