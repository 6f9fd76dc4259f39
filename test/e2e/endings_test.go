//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nexd/test/cluster"
)

// source is a server that sends the same bytes to everybody, at a pace.
type source struct {
	data []byte
	sum  [32]byte
	// step is sent, then pause waited for, until all is sent.
	step  int
	pause time.Duration
}

func newSource(size, step int, pause time.Duration) *source {
	s := &source{data: make([]byte, size), step: step, pause: pause}
	rand.Read(s.data)
	s.sum = sha256.Sum256(s.data)
	return s
}

func (s *source) serve(c net.Conn) {
	for rest := s.data; len(rest) > 0; {
		n, err := c.Write(rest[:min(s.step, len(rest))])
		if err != nil {
			return
		}
		rest = rest[n:]
		time.Sleep(s.pause) // the pace
	}
}

// download reads a source to its end and compares; started is closed after the
// first bytes.
func (s *source) download(c net.Conn, started chan<- struct{}) error {
	sum := sha256.New()
	first := make([]byte, 1<<16)
	n, err := io.ReadFull(c, first)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	close(started)
	sum.Write(first)
	m, err := io.Copy(sum, c)
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", int64(n)+m, len(s.data), err)
	}
	if !bytes.Equal(sum.Sum(nil), s.sum[:]) {
		return fmt.Errorf("%d bytes of %d, or others", int64(n)+m, len(s.data))
	}
	return nil
}

// begin starts a download and returns once it is under way; the channel gives its end.
func (s *source) begin(t *testing.T, n *cluster.Node, addr string) <-chan error {
	t.Helper()
	c := dial(t, n, "tcp", addr)
	c.SetDeadline(time.Now().Add(time.Minute))
	started, result := make(chan struct{}), make(chan error, 1)
	go func() {
		err := s.download(c, started)
		c.Close()
		result <- err
	}()
	select {
	case <-started:
	case err := <-result:
		t.Fatalf("download from %s: %v", addr, err)
	}
	return result
}

// TestDrain: SIGTERM and the removal of a rule let a transfer finish, take
// nothing new, and have an end.
func TestDrain(t *testing.T) {
	p := newPair(t, nil, nil)
	slow := newSource(20<<20, 1<<20, 75*time.Millisecond) // some 1.5 s
	listen(t, p.server, "tcp", "127.0.0.1:9000", slow.serve)
	endless := listen(t, p.server, "tcp", "127.0.0.1:9001", echoAs("app"))
	add(p.ingress, "ingress tcp:8000:127.0.0.1:9000", "ingress tcp:8001:127.0.0.1:9001")
	add(p.egress, "egress tcp:7000:server:8000", "egress tcp:7001:server:8001")
	untilSays(t, "traffic", p.client, "tcp", "127.0.0.1:7001", "app hello")

	// A removed rule: its connection finishes, nobody new comes in.
	for _, at := range []struct {
		proxy *cluster.Proxy
		rule  string
	}{{p.egress, "egress tcp:7000:server:8000"}, {p.ingress, "ingress tcp:8000:127.0.0.1:9000"}} {
		result := slow.begin(t, p.client, "127.0.0.1:7000")
		remove(at.proxy, at.rule)
		if got, err := sayOnce(p.client, "tcp", "127.0.0.1:7000", "hello"); err == nil {
			t.Errorf("%s: a new connection to a removed rule: %q", at.rule, got)
		}
		if err := <-result; err != nil {
			t.Errorf("%s removed during a download: %v", at.rule, err)
		}
		add(at.proxy, at.rule)
	}

	// SIGTERM to either proxy: the download finishes, and so does the proxy.
	for _, proxy := range []*cluster.Proxy{p.egress, p.ingress} {
		result := slow.begin(t, p.client, "127.0.0.1:7000")
		begun := time.Now()
		proxy.Signal(syscall.SIGTERM)
		cluster.Until(t, 5*time.Second, "no new connection while it drains", func() error {
			if got, err := sayOnce(p.client, "tcp", "127.0.0.1:7001", "hello"); err == nil {
				return fmt.Errorf("got %q", got)
			}
			return nil
		})
		if err := <-result; err != nil {
			t.Errorf("%s ended during a download: %v", proxy.Name, err)
		}
		if code := proxy.Wait(10 * time.Second); code != 0 {
			t.Errorf("%s: exit code %d", proxy.Name, code)
		}
		if took := time.Since(begun); took > 8*time.Second {
			t.Errorf("%s took %s to end, long after its last connection", proxy.Name, took)
		}
		proxy.Start()
		proxy.Ready()
		untilSays(t, "traffic after the restart", p.client, "tcp", "127.0.0.1:7001", "app hello")
	}

	// A connection without an end is cut at the drain timeout …
	p.egress.Stop()
	p.egress = p.Proxy(p.client, "--drain-timeout", "3s").Ready()
	talk := func() net.Conn {
		untilSays(t, "traffic", p.client, "tcp", "127.0.0.1:7001", "app hello")
		c := dial(t, p.client, "tcp", "127.0.0.1:7001")
		if _, err := say(c, "hello"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := talk()
	begun := time.Now()
	remove(p.egress, "egress tcp:7001:server:8001")
	if _, err := readLine(c); err == nil || time.Since(begun) > 6*time.Second {
		t.Errorf("a connection of a removed rule: %v after %s", err, time.Since(begun))
	}
	add(p.egress, "egress tcp:7001:server:8001")
	c = talk()
	begun = time.Now()
	p.egress.Signal(syscall.SIGTERM)
	if got, err := say(c, "still"); err != nil || got != "app still" {
		t.Errorf("while it drains: %q, %v", got, err)
	}
	if _, err := readLine(c); err == nil {
		t.Error("the connection outlived the drain")
	}
	if code := p.egress.Wait(10 * time.Second); code != 0 {
		t.Errorf("exit code %d after the drain timeout", code)
	}
	if took := time.Since(begun); took < 2500*time.Millisecond || took > 7*time.Second {
		t.Errorf("--drain-timeout 3s took %s", took)
	}

	// … and at once with a second signal.
	p.egress = p.Proxy(p.client, "--drain-timeout", "60s").Ready()
	talk()
	p.egress.Signal(syscall.SIGTERM)
	cluster.Until(t, 5*time.Second, "it drains", func() error {
		st, err := p.egress.Status()
		if err == nil && st.State != "draining" {
			err = fmt.Errorf("state %s", st.State)
		}
		return err
	})
	time.Sleep(100 * time.Millisecond) // two at the same moment are one: some supervisors signal the group, too
	begun = time.Now()
	p.egress.Signal(syscall.SIGTERM)
	if code := p.egress.Wait(5 * time.Second); code != 1 {
		t.Errorf("second SIGTERM: exit code %d, want 1", code)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("second SIGTERM took %s", took)
	}
	endless.stop()
}

// TestReset: a reset at one end is a reset at the other, and what was sent
// before a close is not lost.
func TestReset(t *testing.T) {
	p := newPair(t, nil, nil)
	arrived := make(chan net.Conn, 1)
	hold := make(chan struct{})
	listen(t, p.server, "tcp", "127.0.0.1:9000", func(c net.Conn) {
		arrived <- c
		<-hold
	})
	t.Cleanup(func() { close(hold) })
	add(p.ingress, "ingress tcp:8000:127.0.0.1:9000", "ingress tcp:8009:127.0.0.1:9009")
	add(p.egress, "egress tcp:7000:server:8000", "egress tcp:7009:server:8009", "egress tcp:7010:server:8010")
	connect := func() (client, server *net.TCPConn) {
		c := dial(t, p.client, "tcp", "127.0.0.1:7000")
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		s := <-arrived
		s.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return c.(*net.TCPConn), s.(*net.TCPConn)
	}
	for range 5 {
		client, server := connect()
		server.SetLinger(0)
		server.Close()
		_, err := readLine(client)
		wantReset(t, "the server resets", err)

		client, server = connect()
		client.SetLinger(0)
		client.Close()
		_, err = readLine(server)
		wantReset(t, "the client resets", err)
	}
	// A reset after the own half was closed.
	client, server := connect()
	client.CloseWrite()
	if _, err := readLine(server); !errors.Is(err, io.EOF) {
		t.Errorf("half-close: %v", err)
	}
	server.SetLinger(0)
	server.Close()
	_, err := readLine(client)
	wantReset(t, "the server resets a half-closed connection", err)

	// Nobody listens at the destination, or no rule at the device.
	for _, port := range []string{"7009", "7010"} {
		wantRefused(t, "port "+port, p.client, "127.0.0.1:"+port)
	}
}

// TestCrowd: a thousand connections at once, each with its own right answer.
func TestCrowd(t *testing.T) {
	p := newPair(t, nil, nil)
	const crowd = 1000
	var here atomic.Int32
	all := make(chan struct{})
	listen(t, p.server, "tcp", "127.0.0.1:9000", func(c net.Conn) {
		c.SetDeadline(time.Now().Add(60 * time.Second))
		line, err := readLine(c)
		if err != nil {
			return
		}
		if here.Add(1) == crowd {
			close(all)
		}
		select { // nobody is answered before everybody is here
		case <-all:
		case <-time.After(60 * time.Second):
			return
		}
		for range 8 {
			io.WriteString(c, strings.Repeat(line, 512))
		}
	})
	add(p.ingress, "ingress tcp:8000:127.0.0.1:9000")
	add(p.egress, "egress tcp:7000:server:8000")
	p.egress.Direct("server")
	var wg sync.WaitGroup
	errs := make(chan error, crowd)
	for i := range crowd {
		wg.Go(func() {
			errs <- func() error {
				c, err := tryDial(p.client, "tcp", "127.0.0.1:7000")
				if err != nil {
					return err
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(60 * time.Second))
				word := fmt.Sprintf("<%04d>", i)
				if _, err := io.WriteString(c, word+"\n"); err != nil {
					return err
				}
				got, err := io.ReadAll(c)
				if err == nil && string(got) != strings.Repeat(word, 4096) {
					err = fmt.Errorf("%d bytes, or others", len(got))
				}
				return err
			}()
		})
	}
	wg.Wait()
	close(errs)
	bad := 0
	for err := range errs {
		if err != nil {
			if bad++; bad <= 5 {
				t.Error(err)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d connections went wrong", bad, crowd)
	}
	cluster.Until(t, 10*time.Second, "nothing is left", func() error {
		r, err := ruleOf(p.egress, "tcp:7000:server:8000")
		if err == nil && (r.Active != 0 || r.Total != crowd) {
			err = fmt.Errorf("active %d, total %d", r.Active, r.Total)
		}
		return err
	})
}

// TestReload: SIGHUP reads --config again; a rule that is in it as before keeps
// its connection, and a file with an error changes nothing.
func TestReload(t *testing.T) {
	p := newPair(t, nil, nil)
	listen(t, p.server, "tcp", "127.0.0.1:9000", echoAs("app"))
	add(p.ingress, "ingress tcp:8000:127.0.0.1:9000")
	p.egress.Stop()
	config := filepath.Join(p.Dir("config", 0), "nexd.yaml")
	if err := os.Chmod(filepath.Dir(config), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const one, two, three = "tcp:7001:server:8000", "tcp:7002:server:8000", "tcp:7003:server:8000"
	write("egress:\n  - " + one + "\n  - " + two + "\n")
	p.egress = p.Proxy(p.client, "--config", config).Ready()
	untilSays(t, "the first rule", p.client, "tcp", "127.0.0.1:7001", "app hello")
	kept := dial(t, p.client, "tcp", "127.0.0.1:7001")
	stays := func(when string) {
		t.Helper()
		if got, err := say(kept, "hello"); err != nil || got != "app hello" {
			t.Errorf("%s: the connection of the unchanged rule: %q, %v", when, got, err)
		}
	}
	stays("before")

	write("egress:\n  - " + three + "\n  - " + one + "\n")
	p.egress.Signal(syscall.SIGHUP)
	untilSays(t, "the rule that was added", p.client, "tcp", "127.0.0.1:7003", "app hello")
	stays("after SIGHUP")
	cluster.Until(t, 5*time.Second, "the rule that was taken out is closed", func() error {
		if _, err := tryDial(p.client, "tcp", "127.0.0.1:7002"); err == nil {
			return errors.New("it is open")
		}
		return nil
	})

	for what, text := range map[string]string{
		"a bad rule": "egress:\n  - " + one + "\n  - tcp:7004:server\n", "no YAML": "egress: [", "an unknown key": "egres:\n  - " + two + "\n",
	} {
		before := len(p.egress.Log())
		write(text)
		p.egress.Signal(syscall.SIGHUP)
		cluster.Until(t, 5*time.Second, what+" is reported", func() error {
			if said := p.egress.Log()[before:]; !strings.Contains(said, "level=ERROR") && !strings.Contains(said, "level=WARN") {
				return fmt.Errorf("it said %q", said)
			}
			return nil
		})
		stays(what)
		wantSay(t, what+": the other rule", p.client, "tcp", "127.0.0.1:7003", "app hello")
	}
}
