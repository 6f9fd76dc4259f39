package node

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/need"
)

// echoTCP answers every stream with itself until the test ends.
func echoTCP(t *testing.T) uint16 {
	t.Helper()
	return serveTCP(t, func(c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
	})
}

// serveTCP calls serve for each connection; it is closed afterwards.
func serveTCP(t *testing.T, serve func(*net.TCPConn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// echoUDP answers every datagram with itself until the test ends.
func echoUDP(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// connect opens a stream to a local port.
func connect(t *testing.T, port uint16) *net.TCPConn {
	t.Helper()
	c, err := tryConnect(t, port)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryConnect(t *testing.T, port uint16) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), patience)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), nil
}

// converse sends size bytes to an echo, ends its half and reads all of them back.
func converse(t *testing.T, port uint16, size int) {
	t.Helper()
	if err := tryConverse(t, port, size); err != nil {
		t.Fatal(err)
	}
}

func tryConverse(t *testing.T, port uint16, size int) error {
	t.Helper()
	c, err := tryConnect(t, port)
	if err != nil {
		return err // a reset may come before connect(2) has returned
	}
	defer c.Close()
	sent := make([]byte, size)
	rand.Read(sent)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err = errors.Join(err, <-wrote); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("got %d of %d bytes back, or others", len(got), len(sent))
	}
	return nil
}

// datagrams sends until one of each size came back whole.
func datagrams(t *testing.T, port uint16, sizes ...int) {
	t.Helper()
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	late := time.Now().Add(patience)
	answer := make([]byte, 65536)
	for _, size := range sizes {
		sent := make([]byte, size)
		rand.Read(sent)
		for {
			if _, err := c.Write(sent); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			n, err := c.Read(answer)
			if err == nil && bytes.Equal(answer[:n], sent) {
				break
			}
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(late) {
				t.Fatalf("datagram of %d bytes: %d came back, %v", size, n, err)
			}
		}
	}
}

// pair is two nodes: "server" offers an echo, "client" reaches it at tcp and udp.
type pair struct {
	*world
	server, client *member
	tcp, udp       uint16
}

func newPair(t *testing.T) *pair {
	t.Helper()
	w := newWorld(t)
	p := &pair{world: w, tcp: need.Port(t), udp: need.Port(t)}
	p.server = w.join("server", withRules(
		ingress(t, fmt.Sprintf("tcp:80:127.0.0.1:%d", echoTCP(t))),
		ingress(t, fmt.Sprintf("udp:53:127.0.0.1:%d", echoUDP(t))),
	))
	p.client = w.join("client", withRules(
		egress(t, fmt.Sprintf("tcp:%d:server:80", p.tcp)),
		egress(t, fmt.Sprintf("udp:%d:%s:53", p.udp, p.server.address())),
	))
	p.client.knows("server")
	p.server.knows("client")
	return p
}

// talk moves bytes both ways over both protocols.
func (p *pair) talk() {
	p.t.Helper()
	converse(p.t, p.tcp, 200_000)
	datagrams(p.t, p.udp, 1, 1000)
}

func TestTrafficThroughTwoNodes(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	converse(t, p.tcp, 3) // the first one opens the path
	converse(t, p.tcp, 2_000_000)
	datagrams(t, p.udp, 0, 1, 1200, 8000)

	st := p.client.await("done with its stream", func(st localapi.Status) bool {
		// WireGuard's own counts may be a moment older than the rest, and the
		// first bytes go by the relay.
		return len(st.Rules) == 2 && st.Rules[0].Active == 0 && st.Rules[0].Total == 2 && st.Peers[0].TxBytes >= 2_000_000 &&
			st.Peers[0].RxBytes >= 2_000_000 && st.Peers[0].Path.Kind == localapi.PathDirect
	})
	if st.Schema != localapi.Schema || st.Version == "" || !st.Ready || len(st.Reasons) != 0 {
		t.Errorf("schema %d, version %q, ready %v, reasons %q", st.Schema, st.Version, st.Ready, st.Reasons)
	}
	if d := st.Device; d.Name != "client" || d.ID == "" || d.PublicKey.IsZero() || len(d.Addresses) != 2 {
		t.Errorf("device %+v", d)
	}
	if s := st.Service; !s.Connected || s.Since.IsZero() || s.URL != "https://"+p.addr {
		t.Errorf("service %+v", s)
	}
	if r := st.Rules[0]; r.BytesIn != 2_000_003 || r.BytesOut != 2_000_003 || r.State != localapi.RuleListening || r.Direction != "egress" {
		t.Errorf("rule %+v", r)
	}
	peer := st.Peers[0]
	if peer.Name != "server" || peer.TxBytes < 2_000_000 || peer.RxBytes < 2_000_000 || peer.LastHandshake.IsZero() || len(peer.Addresses) != 2 {
		t.Errorf("peer %+v", peer)
	}
	if path := peer.Path; path.Kind != localapi.PathDirect || path.Endpoint == "" || path.Since.IsZero() {
		t.Errorf("path %+v", path)
	}
}

// Nobody reaches what no rule offers.
func TestOnlyDeclaredRulesExist(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	closed := need.Port(t)
	open := fmt.Sprintf("tcp:%d:server:%d", closed, echoTCP(t)) // listens on the server's loopback
	if _, err := p.client.api.ChangeRules(t.Context(), specs(egress(t, open)), nil); err != nil {
		t.Fatal(err)
	}
	if err := tryConverse(t, closed, 10); err == nil {
		t.Error("an undeclared port of the device answers")
	}
	converse(t, p.tcp, 10)
}

// exchange sends text over an echo's stream and reads it back.
func exchange(t *testing.T, c *net.TCPConn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

// Ready is never said too early: with it, every declared rule is there and listens.
func TestReadyMeansEveryRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.member("eager", withRules(ingress(t, "tcp:8000-8019:127.0.0.1:9000-9019"), egress(t, fmt.Sprintf("tcp:%d:eager:8000", need.Port(t)))))
	for range 3 { // the first start joins, the others have a map
		n, err := New(m.cfg)
		if err != nil {
			t.Fatal(err)
		}
		stop, watched := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(watched)
			for {
				select {
				case <-stop:
					return
				default:
				}
				st := n.Status()
				if !st.Ready {
					continue
				}
				listening := 0
				for _, r := range st.Rules {
					if r.State == localapi.RuleListening {
						listening++
					}
				}
				if listening != 21 {
					t.Errorf("ready while %d of 21 rules listen", listening)
					return
				}
			}
		}()
		m.run(n)
		m.await("running", isRunning)
		close(stop)
		<-watched
		m.stop()
	}
}

// Every member reaches every other, also one that joins later.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	port := need.Port(t)
	late := p.join("late",
		withRules(egress(t, fmt.Sprintf("tcp:%d:server.nexd.internal:80", port)), ingress(t, fmt.Sprintf("tcp:80:127.0.0.1:%d,allow=client", echoTCP(t)))))
	late.knows("client", "server")
	converse(t, port, 100_000)

	toLate, toLateFromServer := need.Port(t), need.Port(t)
	if _, err := p.client.api.ChangeRules(t.Context(), specs(egress(t, fmt.Sprintf("tcp:%d:late:80", toLate))), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.server.api.ChangeRules(t.Context(), specs(egress(t, fmt.Sprintf("tcp:%d:late:80", toLateFromServer))), nil); err != nil {
		t.Fatal(err)
	}
	converse(t, toLate, 100_000)
	if err := tryConverse(t, toLateFromServer, 10); err == nil {
		t.Error("a member that allow does not name gets in")
	}
	p.talk()
}
