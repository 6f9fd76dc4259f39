package netwatch

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nexd/test/need"
)

// world is a network namespace of its own: that of one thread, and gone with it.
type world struct {
	t  *testing.T
	do chan func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	need.Programs(t, "ip")
	w := &world{t: t, do: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range w.do {
			f()
		}
	}()
	t.Cleanup(func() { close(w.do) })
	if err := <-made; err != nil {
		need.Missing(t, "a network namespace: "+err.Error())
	}
	return w
}

// ip runs commands of ip(8), one a line, and returns what they print.
func (w *world) ip(lines ...string) string {
	w.t.Helper()
	var out []byte
	err := errors.New("not run")
	done := make(chan struct{})
	w.do <- func() {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		out, err = cmd.CombinedOutput()
		close(done)
	}
	<-done
	if err != nil {
		w.t.Fatalf("ip: %v\n%s%s", err, out, strings.Join(lines, "\n"))
	}
	return string(out)
}

// settled waits until every link that is up has its carrier: the kernel finds
// that out later (up to a second) and then tells it.
func (w *world) settled() {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); strings.Contains(w.ip("link show up"), "NO-CARRIER"); {
		if time.Now().After(end) {
			w.t.Fatal("a link has no carrier")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// opened opens the kernel's news in the namespace.
func (w *world) opened() (k source, err error) {
	done := make(chan struct{})
	w.do <- func() {
		k, err = openKernel()
		close(done)
	}
	<-done
	return k, err
}

func TestKernel(t *testing.T) {
	w := newWorld(t)
	w.ip("link set lo up", "link add a0 type veth peer name a1", "link set a1 up", "link set a0 up", "addr add 192.0.2.1/24 dev a0",
		"addr add 2001:db8::1/64 dev a0 nodad", "route add default via 192.0.2.254", "route add 198.51.100.0/24 via 192.0.2.253")
	w.settled()
	k, err := w.opened() // before what follows
	if err != nil {
		t.Fatal(err)
	}
	reasons := running(t, func() (source, error) { return k, nil })
	change := func(want string, lines ...string) {
		t.Helper()
		w.ip(lines...)
		next(t, reasons, want)
	}
	// The marker comes last and alone: what was told before it came of the noise.
	marker := 0
	noise := func(what string, lines ...string) {
		t.Helper()
		w.ip(lines...)
		marker++
		w.ip([]string{"route add 203.0.113.9/32 via 192.0.2.254", "route del 203.0.113.9/32"}[(marker+1)%2])
		select {
		case got := <-reasons:
			if got != Route {
				t.Errorf("%s: told %q", what, got)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the marker was not told", what)
		}
		select {
		case got := <-reasons:
			t.Errorf("%s: told %q as well", what, got)
		case <-time.After(2 * quietTime):
		}
	}

	change(Address, "addr add 192.0.2.2/24 dev a0")
	change(Address, "addr del 192.0.2.2/24 dev a0")
	change(Address, "addr add 2001:db8::2/64 dev a0 nodad")
	change(Route, "route replace default via 192.0.2.252")
	change(Route, "route replace default via 192.0.2.254")
	change(Route, "route add default via 2001:db8::ff")
	change(Link, "link set a0 down")
	change(Link, "link set a0 up")
	change(Route, "route add default via 192.0.2.254") // went without a word
	change(Link, "link add b0 type veth peer name b1", "link set b0 up", "link set b1 up")

	noise("lifetimes of an address", "addr change 192.0.2.1/24 dev a0 valid_lft 1000 preferred_lft 900",
		"addr change 192.0.2.1/24 dev a0 valid_lft 2000 preferred_lft 1900")
	noise("loopback and link-local addresses", "addr add 127.0.0.9/8 dev lo", "addr add 169.254.3.4/16 dev a0")
	noise("the same IPv4 route again", "route replace default via 192.0.2.254")
	noise("another table", "route add 10.0.0.0/8 via 192.0.2.254 table 77", "route add unreachable 2001:db8:9::/48 table 77")
	noise("a rule", "rule add from 10.0.0.0/8 table 77")
	noise("a link's other properties", "link set a0 mtu 1400", "link set a0 alias x", "link set a0 txqueuelen 7")
	noise("a link that is down", "link add c0 type veth peer name c1", "link set c1 up", "link del c0")
	noise("a bridge's port", "link add br0 type bridge", "link add d0 type veth peer name d1", "link set d0 master br0", "link set d0 up")

	change(Address, "addr add 2001:db8::1/64 dev a0 nodad") // the link took it along
	change(Route, "route replace 2001:db8:7::/48 via 2001:db8::ff expires 100")
	noise("the same IPv6 route again", "route replace 2001:db8:7::/48 via 2001:db8::ff expires 200")
	change(Link, "link del b0")
}

// What was lost counts as a change, and what is there is read anew.
func TestKernelLost(t *testing.T) {
	w := newWorld(t)
	w.ip("link add a0 type veth peer name a1", "link set a1 up", "link set a0 up")
	w.settled()
	k, err := w.opened()
	if err != nil {
		t.Fatal(err)
	}
	own := k.(*kernel)
	own.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	if err != nil {
		t.Fatal(err)
	}
	var many []string
	for i := range 200 { // more than the buffer holds, before anybody reads
		many = append(many, "addr add 192.0.2."+string(rune('0'+i%10))+"/32 dev a0", "addr del 192.0.2."+string(rune('0'+i%10))+"/32 dev a0")
	}
	w.ip(many...)
	reasons := running(t, func() (source, error) { return k, nil })
	next(t, reasons, Address)
	w.ip("route add 198.51.100.0/24 dev a0")
	next(t, reasons, Route)
}

func TestClosed(t *testing.T) {
	k, err := openKernel()
	if err != nil {
		need.Missing(t, "a netlink socket: "+err.Error())
	}
	done := make(chan error)
	go func() { done <- k.run(func(reason) {}) }()
	k.close()
	k.close()
	if err := <-done; err == nil {
		t.Error("ended without a reason")
	}
}

// The watcher itself, in the namespace of the thread it runs on.
func TestRunHere(t *testing.T) {
	w := newWorld(t)
	w.ip("link add a0 type veth peer name a1", "link set a1 up", "link set a0 up")
	w.settled()
	reasons := make(chan string, 4)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	ready := make(chan struct{})
	watcher := New(Config{OnChange: func(r string) { reasons <- r }})
	watcher.open = func() (source, error) {
		k, err := w.opened()
		close(ready)
		return k, err
	}
	go func() { done <- watcher.Run(ctx) }()
	<-ready
	w.ip("addr add 192.0.2.1/24 dev a0")
	next(t, reasons, Address)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever comes, the state is bounded and a message told twice is news once.
func FuzzState(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWLINK), uint16(0), []byte{0, 0, 1, 0, 2, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint16(unix.RTM_NEWADDR), uint16(0), []byte{2, 24, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 192, 0, 2, 1})
	f.Add(uint16(unix.RTM_NEWROUTE), uint16(unix.NLM_F_REPLACE), []byte{2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 254})
	f.Add(uint16(unix.RTM_DELROUTE), uint16(0), []byte{10, 64, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 5, 0, 5, 0, 9})
	f.Fuzz(func(t *testing.T, kind, flags uint16, data []byte) {
		s := newState()
		m := syscall.NetlinkMessage{Data: data}
		m.Header.Type, m.Header.Flags = kind, flags
		first := s.take(m)
		gone := kind == unix.RTM_DELROUTE // one never known is news each time
		if again := s.take(m); first != 0 && again != 0 && !gone {
			t.Errorf("news twice: %s, %s", first, again)
		}
	})
}
