package relay

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"nexd/key"
)

// One device that floods above its rate does not cost another its packets.
func TestFloodIsFair(t *testing.T) {
	for name, option := range map[string]nodeOption{"to udp": onlyUDP, "to tls": onlyTLS} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, func(r *testRelay) { r.limits = Limits{DevicePackets: 500, DeviceRate: 1 << 20} })
			flooder, quiet := r.node("net", onlyUDP).connected(UDP), r.node("net", onlyUDP).connected(UDP)
			to := r.node("net", option)
			flooder.reaches(to, "hello")
			quiet.reaches(to, "hello")
			quiet.agreed(to)
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				packets := make([][]byte, 32)
				for i := range packets {
					packets[i] = make([]byte, 1000)
				}
				for {
					// As much as the relay reads, at most 30 times its rate: what a full
					// socket loses, it loses of all.
					read := r.packetsRead() + uint64(flooder.Send(to.public(), packets))
					for late := time.Now().Add(time.Second); ; {
						select {
						case <-stop:
							return
						case <-time.After(2 * time.Millisecond):
						}
						if r.packetsRead() >= read || time.Now().After(late) {
							break
						}
					}
				}
			}()
			defer func() { close(stop); <-done }()
			waitFor(t, "the flood", func() bool { return r.server.Stats().Dropped[DropDeviceRate] > 1000 })
			to.drained()
			arrived := 0
			const sent = 100
			for range sent {
				quiet.Send(to.public(), [][]byte{text("quiet")})
				deadline := time.After(100 * time.Millisecond)
			wait:
				for {
					select {
					case p := <-to.got:
						if p.from == quiet.public() {
							arrived++
							break wait
						}
					case <-deadline:
						break wait
					}
				}
			}
			// A slow machine makes some late: that is not lost.
			for deadline := time.After(patience / 4); arrived < sent*8/10; {
				select {
				case p := <-to.got:
					if p.from == quiet.public() {
						arrived++
					}
					continue
				case <-deadline:
				}
				break
			}
			if arrived < sent*8/10 {
				t.Errorf("%d of %d packets arrived", arrived, sent)
			}
		})
	}
}

// packetsRead is how many packets the relay took from its sockets: what it
// handed on, and what it dropped.
func (r *testRelay) packetsRead() uint64 {
	s := r.server.Stats()
	n := s.PacketsUDP + s.PacketsTLS // handed on
	for _, dropped := range s.Dropped {
		n += dropped
	}
	return n
}

// A client that reads nothing costs its own packets alone, and bounded memory.
func TestSlowReader(t *testing.T) {
	r := newRelay(t, func(r *testRelay) { r.limits.WriteTimeout = time.Hour })
	a, b := r.node("net", onlyUDP).connected(UDP), r.node("net", onlyTLS).connected(TLS)
	slow := key.NewPrivate()
	x := r.rawTLS(slow, r.service.credential(slow.Public(), "net", time.Hour))
	defer x.ws.CloseNow()
	packets := make([][]byte, 64)
	for i := range packets {
		packets[i] = make([]byte, 1200)
	}
	waitFor(t, "drops", func() bool {
		a.Send(slow.Public(), packets)
		return r.server.Stats().Dropped[DropQueue] > 1000
	})
	session := r.server.table.session(NetworkOf("net"), slow.Public())
	q := &session.link.Load().tls.queue
	q.mu.Lock()
	if q.bytes > 256<<10 {
		t.Errorf("%d bytes wait", q.bytes)
	}
	q.mu.Unlock()
	a.reaches(b, "others do not wait")
	b.reaches(a, "others do not wait")
}

// A connection that takes nothing at all is closed in the end.
func TestStuckReaderIsClosed(t *testing.T) {
	r := newRelay(t, func(r *testRelay) { r.limits.WriteTimeout = 200 * time.Millisecond })
	a := r.node("net", onlyUDP).connected(UDP)
	stuck := key.NewPrivate()
	x := r.rawTLS(stuck, r.service.credential(stuck.Public(), "net", time.Hour))
	defer x.ws.CloseNow()
	packets := make([][]byte, 64)
	for i := range packets {
		packets[i] = make([]byte, 1200)
	}
	waitFor(t, "the end", func() bool {
		a.Send(stuck.Public(), packets)
		return r.server.Stats().SessionsTLS == 0
	})
}

// Who connects and says nothing is not kept.
func TestPendingConnectionsEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := newRelay(t, func(r *testRelay) { r.limits = Limits{AdmissionTimeout: 2 * patience, Pending: 2} })
	for range 2 {
		defer r.dialTLS().CloseNow()
	}
	if _, resp, err := websocket.Dial(ctx, r.web.URL, &websocket.DialOptions{HTTPClient: r.web.Client(), Subprotocols: []string{Subprotocol}}); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a third: %v", err)
	}
	hasty := newRelay(t, func(r *testRelay) { r.limits = Limits{AdmissionTimeout: 100 * time.Millisecond} })
	ws := hasty.dialTLS()
	defer ws.CloseNow()
	if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("not closed: %v", err)
	}
}

// rawTLS is an admitted WebSocket client that does what it is told.
type rawTLS struct {
	*raw
	ws   *websocket.Conn
	conn io.ReadWriteCloser // below ws
}

func (r *testRelay) dialTLS() *websocket.Conn {
	ws, _ := r.dialWS()
	return ws
}

func (r *testRelay) dialWS() (*websocket.Conn, io.ReadWriteCloser) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	url := r.url
	if url == "" {
		url = r.web.URL
	}
	up := &upgrade{RoundTripper: r.web.Client().Transport}
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: up}, Subprotocols: []string{Subprotocol}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { up.conn.Close() })
	return ws, up.conn
}

func (r *testRelay) rawTLS(private key.Private, cred []byte) *rawTLS {
	r.t.Helper()
	x := &rawTLS{raw: r.raw(private, cred)}
	x.ws, x.conn = r.dialWS()
	x.start(time.Now(), cred)
	for !x.up {
		for _, f := range x.out {
			if err := x.ws.Write(r.t.Context(), websocket.MessageBinary, appendFramed(nil, f, nil)); err != nil {
				r.t.Fatal(err)
			}
		}
		x.out = nil
		_, message, err := x.ws.Read(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		frame, _, err := nextFramed(message)
		if err != nil {
			r.t.Fatal(err)
		}
		x.handle(time.Now(), frame)
	}
	return x
}
