//go:build linux

package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// streamBytes go each way over each connection.
const streamBytes = 4 << 20

// seeded is the stream that a seed stands for.
func seeded(seed byte) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), streamBytes)
}

// sums of the streams.
var seededSum = sync.OnceValue(func() (sums [2][sha256.Size]byte) {
	for i := range sums {
		h := sha256.New()
		io.Copy(h, seeded(byte(i)))
		sums[i] = [sha256.Size]byte(h.Sum(nil))
	}
	return sums
})

// sendSeeded sends a stream and closes that direction.
func sendSeeded(c net.Conn, seed byte) error {
	if _, err := io.CopyBuffer(struct{ io.Writer }{c}, seeded(seed), make([]byte, 1<<17)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return c.(interface{ CloseWrite() error }).CloseWrite()
}

// receiveSeeded reads a stream to its end.
func receiveSeeded(c net.Conn, seed byte) error {
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{c}, make([]byte, 1<<17))
	switch {
	case err != nil:
		return fmt.Errorf("receive after %d bytes: %w", n, err)
	case n != streamBytes:
		return fmt.Errorf("received %d bytes of %d", n, streamBytes)
	case [sha256.Size]byte(h.Sum(nil)) != seededSum()[seed]:
		return errors.New("received other bytes than were sent")
	}
	return nil
}

// oneAfterTheOther: the server hears the client's end before it begins.
func oneAfterTheOther(c net.Conn, client bool) error {
	if client {
		return errors.Join(sendSeeded(c, 0), receiveSeeded(c, 1))
	}
	if err := receiveSeeded(c, 0); err != nil {
		return err
	}
	return sendSeeded(c, 1)
}

// bothAtOnce: data and acknowledgements of both directions travel together.
func bothAtOnce(c net.Conn, client bool) error {
	var out, in byte = 1, 0
	if client {
		out, in = 0, 1
	}
	sent := make(chan error, 1)
	go func() { sent <- sendSeeded(c, out) }()
	return errors.Join(receiveSeeded(c, in), <-sent)
}

// converse connects client with server and has both talk.
func converse(client, server side, family int, talk func(c net.Conn, client bool) error) error {
	l, err := server.listen(netip.AddrPortFrom(server.addr[family], 0))
	if err != nil {
		return err
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(60 * time.Second))
		served <- talk(c, false)
	}()
	c, err := client.dial("tcp", addrPort(l.Addr()))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if err := talk(c, true); err != nil {
		c.Close()
		l.Close()
		return errors.Join(fmt.Errorf("client: %w", err), <-served)
	}
	return <-served
}

func addrPort(a net.Addr) netip.AddrPort {
	return netip.MustParseAddrPort(a.String())
}

// reset ends a connection of either side by a reset.
func reset(c net.Conn) error {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
		return tcp.Close()
	}
	return c.(interface{ Reset() error }).Reset()
}
