//go:build linux

package e2e

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestCutIsNotWhole: at the drain timeout of either proxy, uploads and downloads
// that go on end with an error at who receives them, however slow they are; what
// is at rest ends plainly.
func TestCutIsNotWhole(t *testing.T) {
	p := newPair(t, nil, nil)
	received := make(chan error, 3)
	listen(t, p.server, "tcp", "127.0.0.1:9000", func(c net.Conn) {
		c.SetDeadline(time.Now().Add(30 * time.Second))
		_, err := io.Copy(io.Discard, c)
		received <- err
	})
	trickle := newSource(10<<20, 1000, 20*time.Millisecond)
	listen(t, p.server, "tcp", "127.0.0.1:9001", trickle.serve)
	listen(t, p.server, "tcp", "127.0.0.1:9002", echoAs("app"))
	add(p.ingress, "ingress tcp:8000-8002:127.0.0.1:9000-9002")
	add(p.egress, "egress tcp:7000-7002:server:8000-8002")
	p.ingress.Stop()
	p.egress.Stop()
	// round has one of the proxies end and reports whether that tells anything: a machine
	// that stands still makes streams rest.
	round := func(which string) bool {
		p.ingress = p.Proxy(p.server, "--drain-timeout", "2s").Ready()
		p.egress = p.Proxy(p.client, "--drain-timeout", "2s").Ready()
		ends, stays := p.egress, p.ingress
		if which == "ingress" {
			ends, stays = stays, ends
		}
		untilSays(t, "traffic", p.client, "tcp", "127.0.0.1:7002", "app hello")
		connect := func(port string) net.Conn {
			c := dial(t, p.client, "tcp", "127.0.0.1:"+port)
			c.SetDeadline(time.Now().Add(30 * time.Second))
			return c
		}
		upload, download, resting := connect("7000"), connect("7001"), connect("7002")
		if _, err := say(resting, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(download, make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			trickle.serve(upload)
		}()
		stood := stands()
		begun := time.Now()
		ends.Signal(syscall.SIGTERM)
		_, down := io.Copy(io.Discard, download)
		up := <-received
		took := time.Since(begun)
		ran := stood() < 500*time.Millisecond // half of what is a rest
		if ran {
			wantReset(t, which+" cuts a download", down)
			wantReset(t, which+" cuts an upload", up)
		}
		if took > 7*time.Second {
			t.Errorf("%s: told after %s", which, took)
		}
		if _, err := resting.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s cuts a connection at rest: %v", which, err)
		}
		<-sent
		if code := ends.Wait(10 * time.Second); code != 0 {
			t.Errorf("%s: exit code %d", which, code)
		}
		stays.Stop()
		return ran
	}
	for _, which := range []string{"egress", "ingress"} {
		rounds := 1
		for ; !round(which) && rounds < 10; rounds++ {
			t.Logf("%s: the machine stood still meanwhile, once more", which)
		}
		if rounds == 10 {
			t.Errorf("%s: the machine stands still all the time", which)
		}
	}
}

// stands begins to look whether this process runs; the function it returns ends
// that, and says for how long it did not at most.
func stands() func() time.Duration {
	done, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		most, last := time.Duration(0), time.Now()
		for {
			var over bool
			select {
			case <-done:
				over = true
			case <-tick.C:
			}
			now := time.Now()
			if most, last = max(most, now.Sub(last)), now; over {
				longest <- most
				return
			}
		}
	}()
	return func() time.Duration {
		close(done)
		return <-longest
	}
}
