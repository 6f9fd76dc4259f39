package netstack_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack"
)

// reader reads the device of a stack into a channel until it is closed.
func reader(t testing.TB, s *netstack.Stack) <-chan []byte {
	t.Helper()
	packets := make(chan []byte, 4096)
	var done sync.WaitGroup
	done.Go(func() {
		bufs, sizes := [][]byte{make([]byte, 65535)}, make([]int, 1)
		for {
			if _, err := s.Device().Read(bufs, sizes, 0); err != nil {
				return
			}
			packets <- append([]byte(nil), bufs[0][:sizes[0]]...)
		}
	})
	t.Cleanup(func() { s.Close(); done.Wait() })
	return packets
}

func inject(t testing.TB, s *netstack.Stack, packets ...[]byte) {
	t.Helper()
	if n, err := s.Device().Write(packets, 0); n != len(packets) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func next(t testing.TB, packets <-chan []byte) []byte {
	t.Helper()
	select {
	case p := <-packets:
		return p
	case <-time.After(patience):
		t.Fatal("no packet came")
		return nil
	}
}

// packet4 builds an IPv4 packet without a transport checksum.
func packet4(from, to netip.Addr, protocol uint8, payload []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b, 0))
	return append(b, payload...)
}

func packet6(from, to netip.Addr, next uint8, payload []byte) []byte {
	b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(payload))
	b[0], b[6], b[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	return append(b, payload...)
}

func syn(port, to uint16) []byte {
	b := make([]byte, header.TCPMinimumSize)
	binary.BigEndian.PutUint16(b[0:], port)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], 1000)
	b[12], b[13] = 5<<4, byte(header.TCPFlagSyn)
	binary.BigEndian.PutUint16(b[14:], 65535)
	return b
}

func datagram(port, to uint16) []byte {
	b := make([]byte, header.UDPMinimumSize+4)
	binary.BigEndian.PutUint16(b[0:], port)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}
