//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nexd/localapi"
	"nexd/test/cluster"
)

// inside runs open with its thread in the node's network namespace. Sockets
// belong to the namespace they were opened in, so the test itself can be the
// server and the client of its stories.
func inside[T any](n *cluster.Node, open func() (T, error)) (T, error) {
	var (
		result T
		err    error
		done   = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		var ns *os.File
		if ns, err = os.Open("/run/netns/" + n.NS); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter %s: %w", n.NS, err)
			return
		}
		result, err = open()
	}()
	<-done
	return result, err
}

// tryDial connects from inside the node.
func tryDial(n *cluster.Node, network, addr string) (net.Conn, error) {
	return inside(n, func() (net.Conn, error) { return net.DialTimeout(network, addr, 10*time.Second) })
}

// dial is tryDial that must succeed; the connection has 30 s to do its work and
// is closed with the test.
func dial(t *testing.T, n *cluster.Node, network, addr string) net.Conn {
	t.Helper()
	c, err := tryDial(n, network, addr)
	if err != nil {
		t.Fatalf("%s: %v", n.Name, err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// backend is a TCP or unix server of the test inside a node.
type backend struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool // mu guards it
	wg    sync.WaitGroup
}

// listen serves each connection with handle, which need not close it; the end
// of the test closes all of it.
func listen(t *testing.T, n *cluster.Node, network, addr string, handle func(net.Conn)) *backend {
	t.Helper()
	ln, err := inside(n, func() (net.Listener, error) { return net.Listen(network, addr) })
	if err != nil {
		t.Fatalf("%s: %v", n.Name, err)
	}
	b := &backend{Listener: ln, conns: map[net.Conn]bool{}}
	b.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns[c] = true
			b.mu.Unlock()
			b.wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(b.stop)
	return b
}

// stop closes the listener and every connection, and waits for their handlers.
func (b *backend) stop() {
	b.Close()
	b.mu.Lock()
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// echoAs answers each line with the server's name before it.
func echoAs(name string) func(net.Conn) {
	return func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if _, err := io.WriteString(c, name+" "+line); err != nil {
				return
			}
		}
	}
}

// say sends a word as a line and returns the line that comes back.
func say(c net.Conn, word string) (string, error) {
	if _, err := io.WriteString(c, word+"\n"); err != nil {
		return "", err
	}
	return readLine(c)
}

// readLine reads a line and not a byte more, or a datagram that is one.
func readLine(c net.Conn) (string, error) {
	if _, ok := c.(*net.UDPConn); ok {
		b := make([]byte, 1<<16)
		n, err := c.Read(b)
		return strings.TrimSuffix(string(b[:n]), "\n"), err
	}
	var line []byte
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}

// sayOnce is say over a connection of its own.
func sayOnce(n *cluster.Node, network, addr, word string) (string, error) {
	c, err := tryDial(n, network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return say(c, word)
}

// wantSay fails the test unless the answer is want.
func wantSay(t *testing.T, what string, n *cluster.Node, network, addr, want string) {
	t.Helper()
	got, err := sayOnce(n, network, addr, "hello")
	if err != nil || got != want {
		t.Errorf("%s: got %q, %v; want %q", what, got, err, want)
	}
}

// untilSays waits until the answer is want: a rule, a path or a name is on its way.
func untilSays(t *testing.T, what string, n *cluster.Node, network, addr, want string) {
	t.Helper()
	cluster.Until(t, 20*time.Second, what, func() error {
		got, err := sayOnce(n, network, addr, "hello")
		if err == nil && got != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

// wantReset fails the test unless err says that the connection was reset.
func wantReset(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%s: got %v, want a reset", what, err)
	}
}

// wantRefused connects and fails the test unless that ends with a reset.
func wantRefused(t *testing.T, what string, n *cluster.Node, addr string) {
	t.Helper()
	c, err := tryDial(n, "tcp", addr)
	if err == nil { // the reset may come before connect(2) is seen to succeed
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = readLine(c)
	}
	wantReset(t, what, err)
}

// ruleOf returns one rule of the proxy's status.
func ruleOf(p *cluster.Proxy, text string) (localapi.RuleStatus, error) {
	st, err := p.Status()
	if err != nil {
		return localapi.RuleStatus{}, err
	}
	var have []string
	for _, r := range st.Rules {
		if r.Rule == text {
			return r, nil
		}
		have = append(have, r.Rule)
	}
	return localapi.RuleStatus{}, fmt.Errorf("no rule %s among %s", text, strings.Join(have, " "))
}

// untilRule waits until the rule is in a state, its error holding part.
func untilRule(t *testing.T, p *cluster.Proxy, text, state, part string) {
	t.Helper()
	cluster.Until(t, 20*time.Second, text+" "+state, func() error {
		r, err := ruleOf(p, text)
		if err == nil && (r.State != state || !strings.Contains(r.Error, part)) {
			err = fmt.Errorf("it is %s: %s", r.State, r.Error)
		}
		return err
	})
}

// add and remove change the rules of a running proxy, given as DIRECTION RULE pairs.
func add(p *cluster.Proxy, rules ...string)    { change(p, "add", rules) }
func remove(p *cluster.Proxy, rules ...string) { change(p, "remove", rules) }

func change(p *cluster.Proxy, verb string, rules []string) {
	args := []string{"nexd", "proxy", verb}
	for _, r := range rules {
		direction, rule, _ := strings.Cut(r, " ")
		args = append(args, "--"+direction, rule)
	}
	p.Ctl(args...)
}

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) }
