package bind

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/test/need"
)

// udp returns a socket on loopback and its address.
func udp(t *testing.T) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// read returns the next datagram of a socket.
func read(t *testing.T, c *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 65535)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n], from
}

func TestExtraSocket(t *testing.T) {
	stun := make(chan netip.AddrPort, 1)
	b := New(Config{OnSTUN: func(_ []byte, from netip.AddrPort) { stun <- from }})
	in := reading(t, b)
	remote, remoteAddr := udp(t)
	hole, holeAddr := udp(t)
	stranger, _ := udp(t)
	peer := newPeer()
	setPath(b, peer, remoteAddr)
	ep := peerEndpoint(t, b, peer)
	if err := b.AddSocket(hole, remoteAddr); err != nil {
		t.Fatal(err)
	}
	b.Send([][]byte{transport(1), transport(2)}, ep)
	if err := b.WriteSTUN(stunMessage(0), remoteAddr); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]byte{transport(1), transport(2), stunMessage(0)} {
		if got, from := read(t, remote); !bytes.Equal(got, want) || from != holeAddr {
			t.Fatalf("% x from %s, want it from %s", got[:8], from, holeAddr)
		}
	}
	// Who is not the remote is not heard; the remote goes the way of the main socket.
	stranger.WriteToUDPAddrPort(transport(3), holeAddr)
	remote.WriteToUDPAddrPort(stunMessage(0), holeAddr)
	remote.WriteToUDPAddrPort(transport(4), holeAddr)
	if got := next(t, in); !bytes.Equal(got.data, transport(4)) || got.from.DstToString() != remoteAddr.String() {
		t.Errorf("got %x from %s", got.data, got.from.DstToString())
	}
	if from := <-stun; from != remoteAddr {
		t.Errorf("STUN from %s", from)
	}
	if a := b.Activity(peer); a.LastReceived.IsZero() || a.RxBytes != 64 {
		t.Errorf("activity %+v", a)
	}
	if s := b.Stats(); s.DroppedForeign != 1 || s.Paths.Direct4.RxPackets != 1 || s.Paths.Direct4.TxPackets != 2 {
		t.Errorf("counters %+v", s)
	}
	b.RemoveSocket(remoteAddr)
	b.RemoveSocket(remoteAddr)
	b.Send([][]byte{transport(5)}, ep)
	if _, from := read(t, remote); from.Port() != b.Port() {
		t.Errorf("after RemoveSocket from %s", from)
	}
	if _, err := hole.Write(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket is still open: %v", err)
	}
}

func TestExtraSocketsAreBounded(t *testing.T) {
	b := opened(t, &fakeSocket{}, Config{})
	var all []*net.UDPConn
	for i := range maxExtra + 1 {
		c, _ := udp(t)
		all = append(all, c)
		err := b.AddSocket(c, netip.AddrPortFrom(here.Addr(), uint16(i+1)))
		if (err != nil) != (i == maxExtra) {
			t.Errorf("socket %d: %v", i, err)
		}
	}
	c, _ := udp(t)
	if err := b.AddSocket(c, netip.AddrPortFrom(here.Addr(), 1)); err != nil {
		t.Errorf("a socket for the same address: %v", err)
	}
	for _, i := range []int{0, maxExtra} {
		if _, err := all[i].Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("socket %d is still open", i)
		}
	}
	b.Close()
	if _, err := c.Write(nil); !errors.Is(err, net.ErrClosed) {
		t.Error("a socket outlived Close")
	}
	late, _ := udp(t)
	if err := b.AddSocket(late, here); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := late.Write(nil); !errors.Is(err, net.ErrClosed) {
		t.Error("a refused socket was left open")
	}
	nowhere, _ := udp(t)
	if err := b.AddSocket(nowhere, noAddr); err == nil {
		t.Error("a socket for nowhere")
	}
}

// A connected socket is told of a port that is closed; it goes on.
func TestConnectedExtraSocket(t *testing.T) {
	b := New(Config{})
	in := reading(t, b)
	remoteAddr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), need.Port(t)) // closed
	hole, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(remoteAddr))
	if err != nil {
		t.Fatal(err)
	}
	holeAddr := hole.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := b.AddSocket(hole, remoteAddr); err != nil {
		t.Fatal(err)
	}
	plain := &conn.StdNetEndpoint{AddrPort: remoteAddr}
	for range 3 {
		if err := b.Send([][]byte{transport(1)}, plain); err != nil {
			t.Fatal(err)
		}
	}
	again, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(remoteAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	again.WriteToUDPAddrPort(transport(2), holeAddr)
	next(t, in)
	b.Send([][]byte{transport(3)}, plain)
	if got, _ := read(t, again); !bytes.Equal(got, transport(3)) {
		t.Errorf("got % x", got)
	}
}

func TestWriteUDP(t *testing.T) {
	b := New(Config{})
	if err := b.WriteUDP([][]byte{{0xC0}}, here); !errors.Is(err, net.ErrClosed) {
		t.Errorf("before Open: %v", err)
	}
	reading(t, b)
	remote, to := udp(t)
	remote.SetReadBuffer(1 << 20)
	// Sizes and buffers as they come: apart, without room behind them, in one piece.
	piece := make([]byte, 0, 100*1000)
	var packets [][]byte
	for i := range 300 {
		p := bytes.Repeat([]byte{byte(i)}, 100+i%3*50)
		switch i % 9 / 3 {
		case 0:
			p = append(make([]byte, 0, 1500), p...)
		case 1:
			at := len(piece)
			piece = append(piece, p...)
			p = piece[at:]
		}
		packets = append(packets, p)
	}
	clipped := make([][]byte, len(packets))
	for i, p := range packets {
		clipped[i] = bytes.Clone(p)[:len(p):len(p)]
	}
	for range 2 {
		for i := 0; i < len(clipped); i += 50 { // as much as the receiver's buffer bears
			if err := b.WriteUDP(clipped[i:i+50], to); err != nil {
				t.Fatal(err)
			}
			for j := range 50 {
				if got, _ := read(t, remote); !bytes.Equal(got, clipped[i+j]) {
					t.Fatalf("datagram %d has %d bytes of %d", i+j, len(got), got[0])
				}
			}
		}
	}
	if err := b.WriteUDP(nil, to); err != nil {
		t.Error(err)
	}
	if err := b.WriteUDP([][]byte{{1}}, noAddr); err == nil {
		t.Error("sent to nowhere")
	}
}

// More than a batch goes in batches, in order and unchanged.
func TestWriteUDPInBatches(t *testing.T) {
	var sizes []int
	f := &fakeSocket{onSend: func(bufs [][]byte, _ *conn.StdNetEndpoint) error {
		sizes = append(sizes, len(bufs))
		return nil
	}}
	b := opened(t, f, Config{})
	var frames [][]byte
	for i := range 300 {
		frames = append(frames, bytes.Repeat([]byte{byte(i)}, 100)[:100:100])
	}
	if err := b.WriteUDP(frames, here); err != nil {
		t.Fatal(err)
	}
	if len(sizes) != 3 || sizes[0] != 128 || sizes[2] != 44 {
		t.Errorf("batches of %v", sizes)
	}
	for i, got := range f.take() {
		if !bytes.Equal(got, frames[i]) {
			t.Fatalf("frame %d changed", i)
		}
	}
}

// Batches pass an extra socket whole, connected or not.
func TestBatchesThroughExtraSockets(t *testing.T) {
	for _, connected := range []bool{false, true} {
		a, b := New(Config{}), New(Config{})
		back, in := reading(t, a), reading(t, b)
		far := local(false, b.Port()).AddrPort
		hole, holeAddr := udp(t)
		if connected {
			hole.Close()
			var err error
			hole, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(far))
			if err != nil {
				t.Fatal(err)
			}
			holeAddr = hole.LocalAddr().(*net.UDPAddr).AddrPort()
		}
		if err := a.AddSocket(hole, far); err != nil {
			t.Fatal(err)
		}
		sent := make([][]byte, 0, 100)
		for i := range 100 {
			p := append(transport(byte(i)), bytes.Repeat([]byte{byte(i)}, 1200)...)
			sent = append(sent, p)
		}
		if err := a.Send(sent, &conn.StdNetEndpoint{AddrPort: far}); err != nil {
			t.Fatal(err)
		}
		for i, want := range sent {
			got := next(t, in)
			if !bytes.Equal(got.data, want) || got.from.DstToString() != holeAddr.String() {
				t.Fatalf("packet %d: %d bytes from %s", i, len(got.data), got.from.DstToString())
			}
		}
		// And back, into the ring.
		if err := b.Send(sent[:50], &conn.StdNetEndpoint{AddrPort: holeAddr}); err != nil {
			t.Fatal(err)
		}
		for i, want := range sent[:50] {
			if got := next(t, back); !bytes.Equal(got.data, want) || got.from.DstToString() != far.String() {
				t.Fatalf("packet %d back: %d bytes from %s", i, len(got.data), got.from.DstToString())
			}
		}
	}
}
