package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nexd/test/need"
)

// sandboxes refuse what is asked for beyond plain UDP, each in its way.
func sandboxes() map[string]*kernel {
	all := make(map[string]*kernel)
	for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM, unix.EACCES, unix.ENOPROTOOPT, unix.EINVAL, unix.EOPNOTSUPP} {
		refuse := func(uintptr, *unix.Mmsghdr, int) (int, syscall.Errno) { return 0, errno }
		add := func(what string, change func(k *kernel)) {
			k := *linux
			change(&k)
			all[unix.ErrnoName(errno)+" "+what] = &k
		}
		add("recvmmsg", func(k *kernel) { k.receive = refuse })
		add("sendmmsg", func(k *kernel) { k.send = refuse })
		add("both", func(k *kernel) { k.receive, k.send = refuse, refuse })
		add("options", func(k *kernel) { k.option = func(uintptr, int) (int, error) { return 0, errno } })
		add("UDP_SEGMENT", func(k *kernel) {
			k.send = func(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno) {
				if first.Hdr.Control != nil {
					return 0, errno
				}
				return linux.send(fd, first, 1)
			}
			k.sendOne = func(fd uintptr, m *unix.Mmsghdr) syscall.Errno {
				if m.Hdr.Control != nil {
					return errno
				}
				return linux.sendOne(fd, m)
			}
		})
	}
	return all
}

// connectedTo returns a socket that is connected to another.
func connectedTo(t *testing.T, to *net.UDPConn) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, to.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// Whatever the system refuses, datagrams come through, there and back.
func TestSandboxesCarryEverything(t *testing.T) {
	var sent [][]byte
	for i, size := range []int{1200, 1200, 1200, 700, 0, 1, 9000, 9000} {
		sent = append(sent, bytes.Repeat([]byte{byte(i + 1)}, size))
	}
	for name, k := range sandboxes() {
		t.Run(name, func(t *testing.T) {
			listening := udpSocket(t)
			listener := hostSocketIn(listening, k)
			p := hostPeer{hostSocketIn(connectedTo(t, listening), k)}
			var from netip.AddrPort
			for range 2 {
				if n, err := p.send(sent); n != len(sent) || err != nil {
					t.Fatalf("sent %d: %v", n, err)
				}
				for got := 0; got < len(sent); {
					err := listener.receive(func(m mail) {
						for i, b := range m.data {
							if from = m.from[i]; !bytes.Equal(b, sent[got]) {
								t.Fatalf("datagram %d: %d bytes, want %d", got, len(b), len(sent[got]))
							}
							got++
						}
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if n, err := listener.write(sent, from, netip.Addr{}); n != len(sent) || err != nil {
					t.Fatalf("answered with %d: %v", n, err)
				}
				for got := 0; got < len(sent); {
					err := p.socket.receive(func(m mail) { got += len(m.data) })
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			both := strings.HasSuffix(name, "both")
			if was := listener.in.Load() == singles; was != (both || strings.HasSuffix(name, "recvmmsg")) {
				t.Errorf("one by one is received: %v", was)
			}
			if was := listener.out.Load() == singles; was != (both || strings.HasSuffix(name, "sendmmsg")) {
				t.Errorf("one by one is sent: %v", was)
			}
		})
	}
}

// A socket of every address tells and answers from the one that was asked.
func TestWildcardInASandbox(t *testing.T) {
	refuse := func(uintptr, *unix.Mmsghdr, int) (int, syscall.Errno) { return 0, unix.ENOSYS }
	k := *linux
	k.receive, k.send = refuse, refuse
	c, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	packets, err := newWildcard(c, netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	defer packets.close()
	s := packets.(*hostSocket)
	s.kernel = &k
	asked := netip.AddrFrom4([4]byte{127, 0, 0, 53})
	client, err := net.Dial("udp4", netip.AddrPortFrom(asked, uint16(c.LocalAddr().(*net.UDPAddr).Port)).String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := client.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	err = s.receive(func(m mail) {
		if m.addressee(0) != asked {
			t.Errorf("asked at %v, want %v", m.addressee(0), asked)
		}
		if _, err := s.write(m.data, m.from[0], m.addressee(0)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 9)); n != 1 || err != nil { // from this address only
		t.Errorf("read %d, %v", n, err)
	}
}

// A firewall says EPERM, too, and that is no reason to do without batches.
func TestFirewallIsNoSandbox(t *testing.T) {
	for name, before := range map[string]bool{"from the beginning": true, "later": false} {
		t.Run(name, func(t *testing.T) {
			k, denies := *linux, before
			k.send = func(fd uintptr, m *unix.Mmsghdr, n int) (int, syscall.Errno) {
				if denies {
					return 0, unix.EPERM
				}
				return linux.send(fd, m, n)
			}
			k.sendOne = func(fd uintptr, m *unix.Mmsghdr) syscall.Errno {
				if denies && before {
					return unix.EPERM
				}
				return linux.sendOne(fd, m)
			}
			p := hostPeer{hostSocketIn(connectedTo(t, udpSocket(t)), &k)}
			send := func() error { _, err := p.send([][]byte{{1}}); return err }
			if !before {
				if err := send(); err != nil {
					t.Fatal(err)
				}
				denies = true
			}
			if send() == nil {
				t.Error("no error")
			}
			denies = false
			if err := send(); err != nil {
				t.Error(err)
			}
			if way := p.socket.out.Load(); way != batches {
				t.Errorf("way %d", way)
			}
		})
	}
}

// counting is a kernel that counts the datagrams that are to be cut out of larger
// ones, and refuses it where it shall not be.
func counting(cuts *int, refuse func(size int) bool) *kernel {
	k := *linux
	refuses := func(m *unix.Mmsghdr) bool {
		if m.Hdr.Control == nil {
			return false
		}
		if refuse(int(m.Hdr.Iov.Len)) {
			return true
		}
		*cuts++
		return false
	}
	k.send = func(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno) {
		if refuses(first) {
			return 0, unix.EINVAL
		}
		return linux.send(fd, first, n)
	}
	k.sendOne = func(fd uintptr, m *unix.Mmsghdr) syscall.Errno {
		if refuses(m) {
			return unix.EINVAL
		}
		return linux.sendOne(fd, m)
	}
	return &k
}

// Kernels that do not know UDP_SEGMENT ignore it and would send everything as one
// datagram: they are never asked to.
func TestOldKernelIsNotAskedToCut(t *testing.T) {
	cuts := 0
	k := counting(&cuts, func(int) bool { return false })
	k.option = func(uintptr, int) (int, error) { return 0, unix.ENOPROTOOPT }
	p := hostPeer{hostSocketIn(connectedTo(t, udpSocket(t)), k)}
	if n, err := p.send([][]byte{make([]byte, 100), make([]byte, 100)}); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if cuts != 0 {
		t.Errorf("asked to cut %d times", cuts)
	}
}

// What one way did not take is tried again later: it was not that of all.
func TestWhatCannotBeCutIsForgotten(t *testing.T) {
	var (
		cuts  int
		now   time.Duration
		small = true
	)
	k := counting(&cuts, func(size int) bool { return small && size > 1000 })
	k.now = func() time.Duration { return now }
	s := hostSocketIn(connectedTo(t, udpSocket(t)), k)
	if !s.cuts {
		need.Missing(t, "a kernel that cuts datagrams")
	}
	send := func(size, want int) {
		t.Helper()
		cuts = 0
		ps := [][]byte{make([]byte, size), make([]byte, size), make([]byte, size)}
		if n, err := (hostPeer{s}).send(ps); n != 3 || err != nil {
			t.Fatalf("%d bytes: sent %d, %v", size, n, err)
		}
		if cuts != want {
			t.Errorf("%d bytes: cut %d times, want %d", size, cuts, want)
		}
	}
	send(1200, 0)
	send(1000, 1)
	small = false
	now = cutMemory - 1
	send(1200, 0)
	send(1100, 1)
	now = cutMemory
	send(1200, 1)
	if s.limit.Load() != nil {
		t.Error("the limit is still there")
	}
	small = true
	send(1200, 0)
	send(1100, 0)
	send(1200, 0)
	if l := s.limit.Load(); l == nil || l.size != 1099 || l.until != 2*cutMemory {
		t.Errorf("limit %+v", l)
	}
}
