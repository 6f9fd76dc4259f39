//go:build linux

package lab

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"sync"

	"nexd/internal/stunwire"
	"nexd/test/netns"
)

// Attributes of RFC 5780 and the size of a STUN header.
const (
	attrChangeRequest  = 0x0003
	attrResponseOrigin = 0x802b
	attrOtherAddress   = 0x802c
	attrFingerprint    = 0x8028

	changeAddr = 4 // flags of CHANGE-REQUEST
	changePort = 2

	stunHeader = 20
)

// stunServer answers binding requests at every address and port of Pub, from
// the one the request asks for.
type stunServer struct {
	conns map[netip.AddrPort]*net.UDPConn
}

// serveSTUN runs the server until stop, which waits for it.
func serveSTUN(h *netns.Host) (stop func(), err error) {
	s := &stunServer{conns: map[netip.AddrPort]*net.UDPConn{}}
	var wg sync.WaitGroup
	stop = func() {
		for _, c := range s.conns {
			c.Close()
		}
		wg.Wait()
	}
	for _, addr := range pubAddrs {
		for _, port := range stunPorts {
			at := netip.AddrPortFrom(addr, port)
			c, err := netns.Inside(h, func() (*net.UDPConn, error) {
				return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			})
			if err != nil {
				stop()
				return nil, err
			}
			s.conns[at] = c
		}
	}
	for at, c := range s.conns {
		wg.Go(func() { s.serve(at, c) })
	}
	return stop, nil
}

// serve answers what arrives at one socket until that is closed.
func (s *stunServer) serve(at netip.AddrPort, c *net.UDPConn) {
	packet := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(packet)
		if err != nil {
			return
		}
		request, err := stunwire.Parse(packet[:n])
		if err != nil || request.Class != stunwire.Request {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		change := changeOf(packet[:n])
		origin := other(at, change&changeAddr != 0, change&changePort != 0)
		answer := stunwire.AppendSuccess(nil, request.ID, from, false)
		answer = appendAddr(answer, attrResponseOrigin, origin)
		answer = appendAddr(answer, attrOtherAddress, other(at, true, true))
		answer = finish(answer, request.Fingerprint)
		s.conns[origin].WriteToUDPAddrPort(answer, from)
	}
}

// other returns the server's endpoint that differs from at in address or port.
func other(at netip.AddrPort, addr, port bool) netip.AddrPort {
	i, j := 0, 0
	for k := range pubAddrs {
		if pubAddrs[k] == at.Addr() {
			i = k
		}
	}
	if at.Port() == stunPorts[1] {
		j = 1
	}
	if addr {
		i ^= 1 // the two of one family stand together
	}
	if port {
		j ^= 1
	}
	return netip.AddrPortFrom(pubAddrs[i], stunPorts[j])
}

// changeOf returns the flags of CHANGE-REQUEST; 0 where there is none. The
// packet has been parsed.
func changeOf(packet []byte) uint32 {
	for rest := packet[min(stunHeader, len(packet)):]; len(rest) >= 4; {
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := 4 + (size+3)&^3
		if padded > len(rest) {
			return 0
		}
		if kind == attrChangeRequest && size == 4 {
			return binary.BigEndian.Uint32(rest[4:])
		}
		rest = rest[padded:]
	}
	return 0
}

// appendAddr appends an address attribute in the form of MAPPED-ADDRESS.
func appendAddr(b []byte, kind uint16, a netip.AddrPort) []byte {
	family, ip := byte(1), a.Addr().AsSlice()
	if len(ip) == 16 {
		family = 2
	}
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(ip)))
	b = append(b, 0, family)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	return append(b, ip...)
}

// finish sets a message's length and appends a fingerprint if it is to have
// one (RFC 8489 section 14.7).
func finish(b []byte, fingerprint bool) []byte {
	const size = 8
	length := len(b) - stunHeader
	if fingerprint {
		length += size
	}
	binary.BigEndian.PutUint16(b[2:], uint16(length))
	if fingerprint {
		sum := crc32.ChecksumIEEE(b) ^ 0x5354554e
		b = binary.BigEndian.AppendUint16(b, attrFingerprint)
		b = binary.BigEndian.AppendUint16(b, 4)
		b = binary.BigEndian.AppendUint32(b, sum)
	}
	return b
}

// appendRequest appends a binding request with CHANGE-REQUEST when change is
// not 0.
func appendRequest(b []byte, id stunwire.TxID, change uint32) []byte {
	b = append(b, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42)
	b = append(b, id[:]...)
	if change != 0 {
		b = binary.BigEndian.AppendUint16(b, attrChangeRequest)
		b = binary.BigEndian.AppendUint16(b, 4)
		b = binary.BigEndian.AppendUint32(b, change)
	}
	return finish(b, true)
}
