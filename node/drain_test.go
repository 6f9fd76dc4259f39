package node

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/need"
)

// transfer is a stream whose server sends everything after release is closed.
type transfer struct {
	*world
	server, client *member
	content        []byte
	release        chan struct{}
	conn           *net.TCPConn
}

func newTransfer(t *testing.T, size int, drain time.Duration) *transfer {
	t.Helper()
	x := &transfer{world: newWorld(t), content: make([]byte, size), release: make(chan struct{})}
	rand.Read(x.content)
	from := serveTCP(t, func(c *net.TCPConn) {
		c.Write([]byte{'>'})
		<-x.release
		c.Write(x.content)
	})
	port := need.Port(t)
	timeout := func(c *Config) { c.DrainTimeout = drain }
	x.server = x.join("server", timeout, withRules(ingress(t, fmt.Sprintf("tcp:80:127.0.0.1:%d", from))))
	x.client = x.join("client", timeout, withRules(egress(t, fmt.Sprintf("tcp:%d:server:80", port))))
	x.client.knows("server")
	x.conn = connect(t, port)
	if _, err := io.ReadFull(x.conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return x
}

func isDraining(st localapi.Status) bool {
	return st.State == localapi.StateDraining && !st.Ready && strings.Contains(strings.Join(st.Reasons, " "), "ending")
}

// receive reads the whole content.
func (x *transfer) receive() {
	x.t.Helper()
	got, err := io.ReadAll(x.conn)
	if err != nil || !bytes.Equal(got, x.content) {
		x.t.Fatalf("received %d of %d bytes, %v", len(got), len(x.content), err)
	}
}

// A transfer under way when nodes are told to stop is finished, to the last byte.
func TestDrainFinishesTransfers(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"server", "client", "both"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			x := newTransfer(t, 6<<20, patience)
			var stopping []*member
			if who != "client" {
				stopping = append(stopping, x.server)
			}
			if who != "server" {
				stopping = append(stopping, x.client)
			}
			for _, m := range stopping {
				m.cancel()
				m.await("draining", isDraining)
				if _, err := m.api.Status(t.Context()); err != nil {
					t.Errorf("a draining daemon does not answer: %v", err)
				}
			}
			close(x.release)
			x.receive()
			x.conn.Close()
			for _, m := range stopping {
				if err := m.ended(); err != nil {
					t.Errorf("%s: Run = %v", m.cfg.Hostname, err)
				}
			}
		})
	}
}

// What does not finish within the drain timeout is cut then.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	x := newTransfer(t, 1, 300*time.Millisecond)
	defer close(x.release)
	began := time.Now()
	x.server.stop()
	if took := time.Since(began); took < 300*time.Millisecond || took > 10*time.Second {
		t.Errorf("a drain of 300ms took %v", took)
	}
	x.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := x.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the stream lives on")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Error("the stream's end is not told")
	}
}

// A negative drain timeout is no drain.
func TestNoDrain(t *testing.T) {
	t.Parallel()
	x := newTransfer(t, 1, -1)
	defer close(x.release)
	began := time.Now()
	x.server.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("no drain took %v", took)
	}
}

// An upload whose sender's node is told to stop arrives to the last byte,
// however slowly it is read.
func TestDrainFinishesUploads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := make([]byte, 3<<20)
	rand.Read(content)
	read, got := make(chan struct{}), make(chan []byte, 1)
	to := serveTCP(t, func(c *net.TCPConn) {
		<-read
		var b bytes.Buffer
		for {
			if _, err := io.CopyN(&b, c, 64<<10); err != nil {
				break
			}
		}
		got <- b.Bytes()
	})
	port := need.Port(t)
	patient := func(c *Config) { c.DrainTimeout = patience }
	server := w.join("server", patient, withRules(ingress(t, fmt.Sprintf("tcp:80:127.0.0.1:%d", to))))
	client := w.join("client", patient, withRules(egress(t, fmt.Sprintf("tcp:%d:server:80", port))))
	client.knows("server")
	conn := connect(t, port)
	go func() {
		conn.Write(content)
		conn.Close()
	}()
	for _, m := range []*member{client, server} { // a node that drains takes no new ones
		m.await("carrying the upload", func(st localapi.Status) bool { return st.Rules[0].BytesIn > 0 })
	}
	client.cancel()
	server.cancel()
	client.await("draining", isDraining)
	close(read)
	if b := <-got; !bytes.Equal(b, content) {
		t.Errorf("%d of %d bytes arrived, or others", len(b), len(content))
	}
	for _, m := range []*member{client, server} {
		if err := m.ended(); err != nil {
			t.Errorf("%s: Run = %v", m.cfg.Hostname, err)
		}
	}
}

// A client that ended its half long ago and reads late still gets the rest of
// the answer from a node that was told to stop, though that is in the node's
// own buffers by then.
func TestDrainWaitsForLateReaders(t *testing.T) {
	t.Parallel()
	for _, megabytes := range []int{6, 7, 8} { // more than the reader's side holds, less than both
		t.Run(fmt.Sprint(megabytes), func(t *testing.T) {
			t.Parallel()
			x := newTransfer(t, megabytes<<20, patience)
			x.conn.CloseWrite()
			x.server.cancel()
			x.server.await("draining", isDraining)
			close(x.release)
			select { // nobody reads, for longer than a mere flush
			case <-x.server.done:
			case <-time.After(2 * flushTimeout):
			}
			x.receive()
			if err := x.server.ended(); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}
