//go:build linux

package paths

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/lab"
	"nexd/test/netns"
)

// A stranger floods the ports of two members and of the service with packets
// that begin like each of the protocols there, of any size and content: the
// connection goes on over its path, and hardly anything is answered.
func TestFlood(t *testing.T) {
	t.Parallel()
	w := New(t)
	// Nothing stands before the members: all of it arrives.
	a, b := newLink(w, w.Site(lab.Public, lab.Options{}), w.Site(lab.FullCone, lab.Options{}))
	stranger := w.Site(lab.Public, lab.Options{Name: "mallory"}).Node(1)
	ready(a, b)
	l := connect(t, w, a, b, localapi.PathDirect)
	targets := []netip.AddrPort{at(t, b, a), at(t, a, b), netip.AddrPortFrom(w.Home.Node(1).V4, 3478)}

	l.survives("a flood", func() {
		var all sync.WaitGroup
		for _, to := range targets {
			all.Go(func() {
				sent, answered := flood(t, stranger.Host, to, 20000, 30*time.Second)
				t.Logf("%s: %d bytes in %d packets, %d bytes of answers in %d", to, sent.bytes, sent.packets, answered.bytes, answered.packets)
				if sent.packets < 1000 {
					t.Errorf("%s: a flood of %d packets in half a minute", to, sent.packets)
				}
				if answered.bytes*10 > sent.bytes {
					t.Errorf("%s: %d bytes are answered with %d", to, sent.bytes, answered.bytes)
				}
			})
		}
		all.Wait()
	})
	l.reaches(localapi.PathDirect)
	if n := l.trace.Fell(); n > 0 {
		t.Errorf("the path was left %d times", n)
	}
	l.oneSession()
}

type traffic struct{ packets, bytes int }

// flood sends packets of noise from a host, as many as it can within a time, and
// counts what comes back.
func flood(t *testing.T, from *netns.Host, to netip.AddrPort, packets int, limit time.Duration) (sent, answered traffic) {
	c, err := netns.Inside(from, func() (*net.UDPConn, error) { return net.ListenUDP("udp", &net.UDPAddr{}) })
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, _, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			answered.packets, answered.bytes = answered.packets+1, answered.bytes+n
		}
	})
	rng := rand.New(rand.NewPCG(uint64(to.Port()), 7))
	buf := make([]byte, 1400)
	for begun := time.Now(); sent.packets < packets && time.Since(begun) < limit; {
		p := noise(rng, buf)
		if _, err := c.WriteToUDPAddrPort(p, to); err == nil {
			sent.packets, sent.bytes = sent.packets+1, sent.bytes+len(p)
		}
		if sent.packets%64 == 0 {
			<-time.After(2 * time.Millisecond) // this machine carries both sides
		}
	}
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	reader.Wait()
	return sent, answered
}

// noise makes a packet that one of the protocols of the port may take for its own.
func noise(rng *rand.Rand, buf []byte) []byte {
	p := buf[:1+rng.IntN(len(buf))]
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	switch rng.IntN(4) {
	case 0: // WireGuard's four messages
		if len(p) >= 4 {
			binary.LittleEndian.PutUint32(p, 1+rng.Uint32N(4))
		}
	case 1: // STUN: requests, answers, of right and wrong lengths
		if len(p) >= 20 {
			binary.BigEndian.PutUint16(p, []uint16{0x0001, 0x0101, 0x0111}[rng.IntN(3)])
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)-20-rng.IntN(2)*4))
			binary.BigEndian.PutUint32(p[4:], 0x2112A442)
		}
	case 2: // a relay's frames
		p[0] = 0xC0 + byte(rng.IntN(32))
	}
	return p
}
