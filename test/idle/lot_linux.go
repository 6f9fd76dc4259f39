package idle

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// AtOnce is how many files a [Lot] holds open at most; SCM_MAX_FD is 253.
const AtOnce = 200

// Lot holds connections open without an open file for each: they are on their
// way through a socket that nobody reads (unix(7), SCM_RIGHTS). It is for one
// goroutine.
type Lot struct {
	t       testing.TB
	way     [2]int
	waiting []*os.File
}

// NewLot returns an empty lot, which is left when the test ends.
func NewLot(t testing.TB) *Lot {
	t.Helper()
	way, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lot{t: t, way: way}
	t.Cleanup(l.Leave)
	return l
}

// Park takes a TCP connection, which stays open until Leave.
func (l *Lot) Park(c net.Conn) {
	l.t.Helper()
	file, err := c.(*net.TCPConn).File()
	c.Close()
	if err != nil {
		l.t.Fatal(err)
	}
	if l.waiting = append(l.waiting, file); len(l.waiting) < AtOnce {
		return
	}
	var all []int
	for _, f := range l.waiting {
		all = append(all, int(f.Fd()))
	}
	if err := unix.Sendmsg(l.way[0], []byte{0}, unix.UnixRights(all...), nil, 0); err != nil {
		l.t.Fatal(err)
	}
	l.forget()
}

// Leave closes every connection. It may be called again.
func (l *Lot) Leave() {
	l.forget()
	if l.way[0] >= 0 {
		unix.Close(l.way[0])
		unix.Close(l.way[1])
		l.way[0] = -1
	}
}

// forget closes the files of this process.
func (l *Lot) forget() {
	for _, f := range l.waiting {
		f.Close()
	}
	l.waiting = nil
}
