package netstack_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"nexd/internal/duplex"
	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

// stream is what host sockets and ours have in common.
type stream interface {
	net.Conn
	CloseWrite() error
}

// pairs are a connection of the host's and one of ours, to be compared.
func pairs(t *testing.T) map[string][2]stream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	accepted, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	limit := time.Now().Add(patience)
	dialled.SetDeadline(limit)
	accepted.SetDeadline(limit)
	a, b := netstacktest.Pair(t)
	client, server := connect(t, a, b, netstacktest.B4)
	return map[string][2]stream{
		"host": {dialled.(stream), accepted.(stream)},
		"mesh": {client, server},
	}
}

// Once its peer has sent FIN and then RST, a socket says EPIPE to Write and
// keeps its end of stream: Linux and we alike.
func TestResetAfterPeersFin(t *testing.T) {
	for name, p := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			if name == "host" && runtime.GOOS != "linux" {
				t.Skip("says what Linux does")
			}
			client, server := p[0], p[1]
			must(t, client.CloseWrite())
			if _, err := server.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
			duplex.Abort(client)
			var err error
			for err == nil { // until the reset is there
				_, err = server.Write([]byte("x"))
			}
			if !errors.Is(err, syscall.EPIPE) {
				t.Errorf("write: %v", err)
			}
			if _, err := server.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// A Read that waits for the answer to a half-closed request hears of a RST.
func TestResetAfterOwnFin(t *testing.T) {
	for name, p := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			client, server := p[0], p[1]
			must(t, client.CloseWrite())
			if _, err := server.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
			read := make(chan error, 1)
			go func() { _, err := client.Read(make([]byte, 1)); read <- err }()
			duplex.Abort(server)
			if err := <-read; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func TestAwaitReset(t *testing.T) {
	a, b := netstacktest.Pair(t)
	for name, test := range map[string]struct {
		end  func(t *testing.T, client, server *netstack.Conn)
		want error
	}{
		"reset":      {func(_ *testing.T, client, _ *netstack.Conn) { client.Reset() }, syscall.ECONNRESET},
		"proper end": {func(_ *testing.T, _, server *netstack.Conn) { server.CloseWrite() }, nil},
		"closed":     {func(_ *testing.T, _, server *netstack.Conn) { server.Close() }, nil},
		"deadline":   {func(_ *testing.T, _, server *netstack.Conn) { server.SetReadDeadline(time.Unix(1, 0)) }, nil},
		"reset after an answer": {func(_ *testing.T, client, server *netstack.Conn) {
			server.Write([]byte("answer"))
			io.ReadFull(client, make([]byte, 6))
			client.Reset()
		}, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := connect(t, a, b, netstacktest.B6)
			must(t, client.CloseWrite())
			if _, err := server.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
			told := make(chan error, 1)
			go func() { told <- server.AwaitReset() }()
			select {
			case err := <-told:
				t.Fatalf("told %v before anything happened", err)
			case <-time.After(10 * time.Millisecond):
			}
			test.end(t, client, server)
			if err := <-told; !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}
