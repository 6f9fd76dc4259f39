package duplextest

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Pair makes a connected pair of streams. The suite closes both; the maker
// registers other clean-up with t.
type Pair func(t testing.TB) (near, far net.Conn)

// TCP makes pairs of host sockets over IPv4 loopback.
func TCP(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return connect(t, ln)
}

// Unix makes pairs of host unix sockets.
func Unix(t testing.TB) (near, far net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "duplex")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return connect(t, ln)
}

// Pipe makes pairs of net.Pipe: no buffer, no half-close, no RST.
func Pipe(testing.TB) (near, far net.Conn) { return net.Pipe() }

func connect(t testing.TB, ln net.Listener) (near, far net.Conn) {
	t.Helper()
	near, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func canHalfClose(c net.Conn) bool {
	_, ok := c.(interface{ CloseWrite() error })
	return ok
}

func canReset(c net.Conn) bool {
	switch c.(type) {
	case interface{ Reset() }, interface{ Reset() error }, interface{ SetLinger(int) error }:
		return true
	}
	return false
}

// tellsReset reports whether a RST after the FIN is noticed without a write.
func tellsReset(c net.Conn) bool {
	switch c.(type) {
	case interface{ AwaitReset() error }:
		return true
	case *net.TCPConn:
		return runtime.GOOS == "linux"
	}
	return false
}
