package bind

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"nexd/test/need"
)

// sandboxes refuse what the package asks for beyond plain UDP, each in its way.
// When they say so at once, how many calls it costs is their own affair; all
// of them must carry every packet.
func sandboxes() map[string]kernel {
	all := make(map[string]kernel)
	for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM, unix.ENOPROTOOPT, unix.EINVAL, unix.EOPNOTSUPP} {
		refuse := func(uintptr, *unix.Mmsghdr, int) (int, syscall.Errno) { return 0, errno }
		later := func(do func(uintptr, *unix.Mmsghdr, int) (int, syscall.Errno)) func(uintptr, *unix.Mmsghdr, int) (int, syscall.Errno) {
			return func(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno) {
				if n == 0 { // all is well when it is asked for nothing
					return do(fd, first, n)
				}
				return 0, errno
			}
		}
		name := func(what string) string { return fmt.Sprintf("%s %s", unix.ErrnoName(errno), what) }

		k := linux
		k.receive = refuse
		all[name("recvmmsg")] = k
		k = linux
		k.send = refuse
		all[name("sendmmsg")] = k
		k = linux
		k.receive = later(linux.receive)
		all[name("recvmmsg, later")] = k
		k = linux
		k.send = later(linux.send)
		all[name("sendmmsg, later")] = k
		k.receive = later(linux.receive)
		all[name("both, later")] = k
		k = linux
		k.option = func(uintptr, int) (int, error) { return 0, errno }
		all[name("options")] = k
		k = linux
		k.setOption = func(uintptr, int, int) error { return errno }
		all[name("UDP_GRO")] = k
		k = linux
		k.send = func(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno) {
			if n > 0 && first.Hdr.Control != nil {
				return 0, errno
			}
			return linux.send(fd, first, min(n, 1))
		}
		all[name("UDP_SEGMENT")] = k
	}
	return all
}

// lines are those of a log.
type lines struct {
	more chan struct{} // holds a token after each line
	mu   sync.Mutex    // guards the field below
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

// await waits until some text is there n times.
func (l *lines) await(t *testing.T, text string, n int) {
	t.Helper()
	late := time.After(10 * time.Second)
	for strings.Count(l.String(), text) < n {
		select {
		case <-l.more:
		case <-late:
			t.Fatalf("the log has %q, want %q %d times", l, text, n)
		}
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// inSandbox makes a socket there, and its log.
func inSandbox(k kernel) (*sockets, *lines) {
	said := &lines{more: make(chan struct{}, 1)}
	s := socketsFor(slog.New(slog.NewTextHandler(said, nil)))
	s.carrier = func(c *net.UDPConn, v6 bool, log *slog.Logger) carrier {
		return newBatched(c, v6, k, joinedMessages, log)
	}
	return s, said
}

func TestSandboxesCarryEverything(t *testing.T) {
	for name, k := range sandboxes() {
		t.Run(name, func(t *testing.T) {
			a, said := inSandbox(k)
			b, heard := inSandbox(k)
			drain(t, a)
			in, port := drain(t, b) // reads at once, so that it is known what the system refuses
			if strings.Contains(name, "recvmmsg") || strings.Contains(name, "both") {
				families := 1
				if b.now.Load().v6 != nil {
					families = 2
				}
				heard.await(t, "one ", families)
			}
			sent := tagged(append(repeated(50, 1200), 9000, 32, 148, 148, 1, 64)...)
			for range 2 {
				err := a.Send(sent, local(false, port))
				var noCut conn.ErrUDPGSODisabled
				if errors.As(err, &noCut) {
					err = noCut.RetryErr
				}
				if err != nil {
					t.Fatal(err)
				}
				for i, want := range sent {
					if p := next(t, in); !bytes.Equal(p.data, want) {
						t.Fatalf("packet %d: %d bytes, want %d", i, len(p.data), len(want))
					}
				}
			}
			if strings.Contains(name, "sendmmsg") && !strings.Contains(said.String(), "one ") {
				t.Errorf("nothing in the log: %q", said)
			}
		})
	}
}

// A firewall says EPERM, too, and that is no reason to do without batches.
func TestFirewallIsNoSandbox(t *testing.T) {
	for name, first := range map[string]bool{"from the beginning": true, "later": false} {
		t.Run(name, func(t *testing.T) {
			denies := first
			k := linux
			k.send = func(fd uintptr, m *unix.Mmsghdr, n int) (int, syscall.Errno) {
				if n > 0 && denies {
					return 0, unix.EPERM
				}
				return linux.send(fd, m, n)
			}
			a, _ := inSandbox(k)
			b, _ := inSandbox(linux)
			receive, to := openPair(t, a, b)
			s := batchedOf(t, a)
			if first { // then plain sends are denied as well
				s.slow = newPlain(deadConn(t))
			} else {
				if err := a.Send(tagged(9), to); err != nil {
					t.Fatal(err)
				}
				denies = true
			}
			if err := a.Send(tagged(9), to); err == nil {
				t.Error("no error")
			}
			if s.slowOut.Load() {
				t.Fatal("does without batches")
			}
			denies = false
			if err := a.Send(tagged(7), to); err != nil {
				t.Fatal(err)
			}
			bufs, sizes, eps := buffers(4, 100)
			if n, err := receive(bufs, sizes, eps); err != nil || n < 1 {
				t.Errorf("%d packets, %v", n, err)
			}
		})
	}
}

func deadConn(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	return c
}

// A path with a small MTU refuses segments, too; the kernel goes on cutting
// for others.
func TestSmallPathIsNoSandbox(t *testing.T) {
	small := false
	k := linux
	k.send = func(fd uintptr, m *unix.Mmsghdr, n int) (int, syscall.Errno) {
		if n > 0 && small && m.Hdr.Control != nil {
			return 0, unix.EINVAL
		}
		return linux.send(fd, m, n)
	}
	a, _ := inSandbox(k)
	b, _ := inSandbox(linux)
	_, to := openPair(t, a, b)
	s := batchedOf(t, a)
	if !s.cuts.Load() {
		need.Missing(t, "a kernel that cuts datagrams")
	}
	refused := func(size int) {
		t.Helper()
		if err := a.Send(tagged(repeated(8, size)...), to); !errors.Is(err, unix.EINVAL) || !s.cuts.Load() {
			t.Errorf("%d bytes: error %v, cuts %v", size, err, s.cuts.Load())
		}
	}
	small = true
	refused(1400) // which may well be too much for a path
	small = false
	if err := a.Send(tagged(repeated(8, 1000)...), to); err != nil {
		t.Fatal(err)
	}
	small = true
	refused(1000)
}

func TestProbe(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := linux.probe(raw); err != nil {
		t.Errorf("this kernel has batches: %v", err)
	}
	k := linux
	k.send = func(uintptr, *unix.Mmsghdr, int) (int, syscall.Errno) { return 0, unix.ENOSYS }
	if err := k.probe(raw); !errors.Is(err, unix.ENOSYS) || err.(*os.SyscallError).Syscall != "sendmmsg" {
		t.Errorf("probe: %v", err)
	}
	c.Close()
	if err := linux.probe(raw); err == nil {
		t.Error("a closed socket has none")
	}
	if _, plain := newCarrier(c, false, slog.New(slog.DiscardHandler)).(*plain); !plain {
		t.Error("want the plain carrier")
	}
}
