package netstack_test

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

// slowSYN makes handshakes, and nothing else, take their time.
func slowSYN(packet []byte, _ bool) bool {
	if header.TCP(packet[header.IPv4MinimumSize:]).Flags()&header.TCPFlagSyn != 0 {
		time.Sleep(10 * time.Millisecond) // the delay of the wire
	}
	return true
}

// The receive window stays as it began where the peer is near, and grows elsewhere.
func TestWindow(t *testing.T) {
	t.Run("near", func(t *testing.T) {
		a, b := netstacktest.Pair(t)
		deadline := time.Now().Add(patience)
		client, server := connect(t, a, b, netstacktest.B4)
		for !server.Near() { // the machine was busy
			if time.Now().After(deadline) {
				t.Fatal("nobody is near")
			}
			client, server = connect(t, a, b, netstacktest.B4)
		}
		exchange(t, client, server, 24<<20)
		if size := server.ReceiveBuffer(); size != netstack.ReceiveDefault {
			t.Errorf("a receive buffer of %d bytes", size)
		}
	})
	t.Run("far", func(t *testing.T) {
		a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: slowSYN})
		client, server := connect(t, a, b, netstacktest.B4)
		if client.Near() || server.Near() {
			t.Fatal("taken for near")
		}
		exchange(t, client, server, 24<<20)
		if size := server.ReceiveBuffer(); size <= netstack.ReceiveDefault {
			t.Errorf("a receive buffer of %d bytes", size)
		}
	})
}
