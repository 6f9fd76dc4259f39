package need

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Ports that are given: below those that systems choose for sockets that name
// none (Linux: from 32768), which could take one before the test does.
const (
	lowestPort = 10_000
	ports      = 18_000
)

// last is where Port goes on, so that a process gets none twice. Each
// process begins elsewhere: they run side by side.
var last atomic.Uint32

func init() { last.Store(rand.Uint32N(ports)) }

// Port returns a port that nobody listens on, over TCP or UDP, at any
// address of either family.
func Port(t T) uint16 {
	t.Helper()
	for range ports {
		port := uint16(lowestPort + last.Add(1)%ports)
		at := fmt.Sprintf(":%d", port)
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", at)
		l.Close()
		if err != nil {
			continue
		}
		c.Close()
		return port
	}
	t.Fatalf("no port is free")
	return 0
}
