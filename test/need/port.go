package need

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports that are given: below those that systems choose for sockets that name
// none (Linux: from 32768), which could take one before the test does. They come
// in blocks. A block is a process's own for as long as it listens at the first of
// its ports: processes run side by side, and a port is given some time before it
// is listened at.
const (
	lowestPort = 10_000
	ports      = 18_000
	blockSize  = 100
	mostBlocks = ports / blockSize / 6 // of one process
)

// blocks are those of a process.
type blocks struct {
	mu    sync.Mutex // guards the fields below
	own   []net.Listener
	given int // ports, of all in own
}

var mine blocks

// Port returns a port that nobody listens on, over TCP or UDP, at any address of
// either family, and that no other process gets as long as this one runs. One
// that was given before is given again only after thousands.
func Port(t T) uint16 {
	t.Helper()
	if port := mine.port(); port != 0 {
		return port
	}
	t.Fatalf("no port is free")
	return 0
}

// port returns 0 when none is free.
func (b *blocks) port() uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range ports {
		if at := b.given / (blockSize - 1); at == len(b.own) && (at == mostBlocks || !b.claim()) {
			if b.given = 0; len(b.own) == 0 {
				return 0
			}
		}
		first := b.own[b.given/(blockSize-1)].Addr().(*net.TCPAddr).Port
		port := uint16(first + 1 + b.given%(blockSize-1))
		b.given++
		if free(port) {
			return port
		}
	}
	return 0
}

// claim makes one more block this process's own.
func (b *blocks) claim() bool {
	for _, i := range rand.Perm(ports / blockSize) {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", lowestPort+i*blockSize))
		if err == nil {
			b.own = append(b.own, l)
			return true
		}
	}
	return false
}

func free(port uint16) bool {
	at := fmt.Sprintf(":%d", port)
	l, err := net.Listen("tcp", at)
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
