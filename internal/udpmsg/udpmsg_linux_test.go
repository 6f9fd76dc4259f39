package udpmsg

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nexd/test/need"
)

func TestAddresses(t *testing.T) {
	for in, want := range map[string]struct{ narrow, wide string }{
		"192.0.2.1:65535":           {"192.0.2.1:65535", "192.0.2.1:65535"},
		"[::ffff:192.0.2.1]:258":    {"192.0.2.1:258", "192.0.2.1:258"},
		"[2001:db8::1]:1":           {"", "[2001:db8::1]:1"},
		"[fe80::1%eth0]:3":          {"", "[fe80::1]:3"},
		"255.255.255.255:0":         {"255.255.255.255:0", "255.255.255.255:0"},
		"[ff02::1:ff00:1234]:65280": {"", "[ff02::1:ff00:1234]:65280"},
	} {
		to := netip.MustParseAddrPort(in)
		for _, wide := range []bool{false, true} {
			expect, length := want.narrow, unix.SizeofSockaddrInet4
			if wide {
				expect, length = want.wide, unix.SizeofSockaddrInet6
			}
			if expect == "" {
				continue
			}
			name := unix.RawSockaddrInet6{Flowinfo: 7, Scope_id: 9, Addr: [16]byte{15: 1}}
			if n := PutAddr(&name, to, wide); int(n) != length {
				t.Errorf("%s, wide %v: %d bytes", in, wide, n)
			}
			if got := Addr(&name); got.String() != expect {
				t.Errorf("%s, wide %v: %s", in, wide, got)
			}
		}
	}
	if got := Addr(&unix.RawSockaddrInet6{Family: unix.AF_UNIX}); got.IsValid() {
		t.Errorf("no IP address: %s", got)
	}
}

func TestSizeOfWhatIsNotThere(t *testing.T) {
	var h unix.Msghdr
	j := Joined{size: 1000}
	j.Ask(&h)
	if got := j.Size(&h); got != 0 {
		t.Errorf("another control message: %d", got)
	}
	j.hdr.Level, j.hdr.Type = unix.IPPROTO_UDP, unix.UDP_GRO
	if got := j.Size(&h); got != 1000 {
		t.Errorf("joined: %d", got)
	}
	h.SetControllen(unix.CmsgLen(4) - 1)
	if got := j.Size(&h); got != 0 {
		t.Errorf("cut off: %d", got)
	}
	h.SetControllen(unix.CmsgLen(4))
	if j.size = -1; j.Size(&h) != 0 {
		t.Errorf("below nothing: %d", j.Size(&h))
	}
}

// What is sent in one piece is cut, and joined again.
func TestThroughTheKernel(t *testing.T) {
	in, out := socket(t), socket(t)
	on := func(c *net.UDPConn, do func(fd uintptr) bool) {
		t.Helper()
		raw, err := c.SyscallConn()
		if err == nil {
			err = raw.Read(do)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var joins, cuts error
	on(in, func(fd uintptr) bool {
		joins = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		_, cuts = unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		return true
	})
	if joins != nil || cuts != nil {
		need.Missing(t, "a kernel that joins and cuts datagrams")
	}
	const size, packets = 100, 3
	to := netip.MustParseAddrPort(in.LocalAddr().String())

	data := make([]byte, size*packets-1) // the last is shorter
	for i := range data {
		data[i] = byte(i)
	}
	var name unix.RawSockaddrInet6
	var cut Cut
	iov := unix.Iovec{Base: &data[0]}
	iov.SetLen(len(data))
	var m unix.Mmsghdr
	m.Hdr.Iov, m.Hdr.Name, m.Hdr.Namelen = &iov, (*byte)(unsafe.Pointer(&name)), PutAddr(&name, to, false)
	m.Hdr.SetIovlen(1)
	cut.Into(&m.Hdr, size)
	n, errno := 0, syscall.Errno(0)
	on(out, func(fd uintptr) bool { n, errno = Send(fd, &m, 1); return true })
	if n != 1 || errno != 0 {
		t.Fatalf("%d sent, %v", n, errno)
	}

	var joined Joined
	got := make([]byte, 2*len(data))
	iov = unix.Iovec{Base: &got[0]}
	iov.SetLen(len(got))
	m.Hdr.Namelen = unix.SizeofSockaddrInet6
	joined.Ask(&m.Hdr)
	on(in, func(fd uintptr) bool { n, errno = Receive(fd, &m, 1); return errno != unix.EAGAIN })
	if n != 1 || errno != 0 || string(got[:m.Len]) != string(data) || joined.Size(&m.Hdr) != size {
		t.Errorf("%d received, %v: %d bytes, in datagrams of %d", n, errno, m.Len, joined.Size(&m.Hdr))
	}
	if from := Addr(&name); from.String() != out.LocalAddr().String() {
		t.Errorf("from %s, not %s", from, out.LocalAddr())
	}
	on(in, func(fd uintptr) bool { n, errno = Receive(fd, &m, 1); return true })
	if errno != unix.EAGAIN {
		t.Errorf("nothing left: %d, %v", n, errno)
	}

	Whole(&m.Hdr)
	m.Hdr.Namelen = PutAddr(&name, to, false)
	iov.SetLen(size + 1)
	on(out, func(fd uintptr) bool { n, errno = Send(fd, &m, 1); return true })
	if n != 1 || errno != 0 {
		t.Fatalf("a whole one: %d sent, %v", n, errno)
	}
	joined.Ask(&m.Hdr)
	on(in, func(fd uintptr) bool { n, errno = Receive(fd, &m, 1); return errno != unix.EAGAIN })
	if n != 1 || m.Len != size+1 || joined.Size(&m.Hdr) != 0 {
		t.Errorf("a whole one: %d bytes, in datagrams of %d", m.Len, joined.Size(&m.Hdr))
	}
}

func socket(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}
