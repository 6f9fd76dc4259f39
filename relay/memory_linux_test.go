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

	"nexd/key"
	"nexd/test/idle"
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
		before := idle.Memory()
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
		n := int(min(manyTLS(), l.Cur-2*idle.AtOnce))
		r := newRelay(t, func(r *testRelay) { r.limits.Idle = time.Hour })
		conf := r.web.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		conf.NextProtos, conf.ServerName = nil, "example.com" // httptest's certificate
		lot := idle.NewLot(t)
		before := idle.Memory()
		for range n {
			lot.Park(r.joinBare(conf))
		}
		r.idleCost(before, n)
	})
}

func (r *testRelay) idleCost(before uint64, n int) {
	r.t.Helper()
	s := r.server.Stats()
	each := (idle.Memory() - before) / uint64(n)
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
