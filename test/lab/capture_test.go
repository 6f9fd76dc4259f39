//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"nexd/internal/stunwire"
	"nexd/test/netns"
)

// Every kind of packet is counted as what it is, in its direction.
func TestCapture(t *testing.T) {
	t.Parallel()
	l := New(t)
	n := l.Site(Public, Options{}).Node(1)
	pub, in := listen(t, l.Pub, "udp4"), listen(t, n.Host, "udp4")
	pubAt, inAt := at(pub, pubAddrs[0]), at(in, n.V4)
	cable := n.Watch()

	wireGuard := func(kind byte, counter uint64) []byte {
		b := append(make([]byte, 0, 32), kind, 0, 0, 0, 9, 9, 9, 9)
		b = binary.LittleEndian.AppendUint64(b, counter)
		return b[:32]
	}
	framed := func(kind byte, header int, packet []byte) []byte {
		return append(append([]byte{kind}, make([]byte, header-1)...), packet...)
	}
	question := appendRequest(nil, stunwire.TxID{1}, 0)
	check := finish(append(appendRequest(nil, stunwire.TxID{2}, 0)[:stunHeader], 0, 6, 0, 4, 'a', 'b', 'c', 'd'), false)
	answer := finish(stunwire.AppendSuccess(nil, stunwire.TxID{3}, inAt, false), false)
	for _, b := range [][]byte{
		wireGuard(1, 0), wireGuard(4, 1), wireGuard(4, 2), question, check, answer, []byte("something"),
		framed(relayData, 8, wireGuard(4, 2)), framed(relayDataKey, 40, check), framed(relayData, 8, []byte{relayOffer, 1, 2}),
		framed(0xc5, 40, nil),
	} {
		for _, way := range []struct {
			conn interface {
				WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
			}
			to netip.AddrPort
		}{{in, pubAt}, {pub, inAt}} {
			if _, err := way.conn.WriteToUDPAddrPort(b, way.to); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := Packets{Handshakes: 1, Data: 3, Checks: 2, Questions: 1, Answers: 1, Offers: 1, RelayData: 3, RelayOwn: 1, UDP: 1}
	netns.Until(t, 5*time.Second, "all is counted", func() error {
		got := cable.Totals()
		got.Out.Other, got.In.Other = 0, 0 // neighbours looking for each other
		out := want
		out.Doubled = 1
		if got != (Traffic{Out: out, In: want}) {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	if again := cable.Totals(); again.Minus(again) != (Traffic{}) {
		t.Errorf("nothing is %+v", again.Minus(again))
	}
}
