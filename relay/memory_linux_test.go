package relay

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nexd/key"
	"nexd/test/need"
)

const idleSessions = 10_000

// manyTLS is how many sessions over TLS are tried: a few say what one costs.
// RELAY_SESSIONS=10000 asks for more.
func manyTLS() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("RELAY_SESSIONS"), 10, 32); err == nil {
		return n
	}
	return 1000
}

// Ten thousand idle sessions cost below 16 KiB each.
func TestIdleMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("ten thousand sessions take a while")
	}
	t.Run("udp", func(t *testing.T) {
		r := newRelay(t)
		before := memory()
		for i := range uint32(idleSessions) {
			r.seatUDP(i)
		}
		r.idleCost(before, idleSessions)
	})
	t.Run("tls", func(t *testing.T) {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur < 2000 {
			need.Missing(t, "the right to open 2000 files")
		}
		n := int(min(manyTLS(), l.Cur-2*parkedAtOnce))
		r := newRelay(t, func(r *testRelay) { r.limits.Idle = time.Hour })
		conf := r.web.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		conf.NextProtos, conf.ServerName = nil, "example.com" // httptest's certificate
		lot := newParking(t)
		before := memory()
		for range n {
			lot.park(r.joinBare(conf))
		}
		r.idleCost(before, n)
	})
}

// parking holds connections open without an open file for each: they are on
// their way through a socket that nobody reads (unix(7), SCM_RIGHTS).
type parking struct {
	t       *testing.T
	way     [2]int
	waiting []*os.File
}

// parkedAtOnce is how many files one message carries; SCM_MAX_FD is 253.
const parkedAtOnce = 200

func newParking(t *testing.T) *parking {
	way, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &parking{t: t, way: way}
	t.Cleanup(func() {
		p.forget()
		unix.Close(way[0])
		unix.Close(way[1])
	})
	return p
}

// park takes a connection, which stays open until the test ends.
func (p *parking) park(c net.Conn) {
	p.t.Helper()
	file, err := c.(*net.TCPConn).File()
	c.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.waiting = append(p.waiting, file); len(p.waiting) < parkedAtOnce {
		return
	}
	var all []int
	for _, f := range p.waiting {
		all = append(all, int(f.Fd()))
	}
	if err := unix.Sendmsg(p.way[0], []byte{0}, unix.UnixRights(all...), nil, 0); err != nil {
		p.t.Fatal(err)
	}
	p.forget()
}

// forget closes the files of this process.
func (p *parking) forget() {
	for _, f := range p.waiting {
		f.Close()
	}
	p.waiting = nil
}

// memory is what the process has in use.
func memory() uint64 {
	runtime.GC()
	runtime.GC() // what pools held goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func (r *testRelay) idleCost(before uint64, n int) {
	r.t.Helper()
	s := r.server.Stats()
	each := (memory() - before) / uint64(n)
	r.t.Logf("%d idle sessions: %d bytes each", n, each)
	if each > 16<<10 || s.SessionsUDP+s.SessionsTLS != n {
		r.t.Errorf("%d bytes a session; %+v", each, s)
	}
	runtime.KeepAlive(r)
}

// joinBare joins by WebSocket and keeps only the TCP connection of the
// client's end, so that what is measured is the relay's.
func (r *testRelay) joinBare(conf *tls.Config) net.Conn {
	t := r.t
	t.Helper()
	tcp, err := net.Dial("tcp", r.web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(tcp, conf)
	conn.SetDeadline(time.Now().Add(patience))
	defer conn.SetDeadline(time.Time{})
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	br := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", resp, err)
	}
	p := key.NewPrivate()
	secret, err := deriveSecret(p, r.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	m := machine{secret: secret, tag: 1, epoch: func(uint64) uint64 { return 1 }}
	m.start(time.Now(), r.service.credential(p.Public(), "net", time.Hour))
	for !m.up {
		for _, f := range m.out {
			message := appendFramed(nil, f, nil)
			// A final binary message under a mask of zeros (RFC 6455 section 5.2).
			wire := []byte{0x82, 0x80 | 126, byte(len(message) >> 8), byte(len(message)), 0, 0, 0, 0}
			if _, err := conn.Write(append(wire, message...)); err != nil {
				t.Fatal(err)
			}
		}
		m.out = nil
		var head [2]byte
		if _, err := io.ReadFull(br, head[:]); err != nil || head[0] != 0x82 || head[1] > 125 {
			t.Fatalf("%x, %v", head, err)
		}
		message := make([]byte, head[1])
		if _, err := io.ReadFull(br, message); err != nil {
			t.Fatal(err)
		}
		frame, _, err := nextFramed(message)
		if err != nil {
			t.Fatal(err)
		}
		m.handle(time.Now(), frame)
	}
	return tcp
}
