package bind

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/relaypath"
	"nexd/key"
)

var (
	here   = netip.MustParseAddrPort("192.0.2.1:1000")
	there  = netip.MustParseAddrPort("[2001:db8::2]:2000")
	noAddr netip.AddrPort
)

func TestHandshakeWaitsForThePath(t *testing.T) { synctest.Test(t, handshakeWaitsForThePath) }

func handshakeWaitsForThePath(t *testing.T) {
	var asked []key.Public
	f := &fakeSocket{}
	b := opened(t, f, Config{OnNoPath: func(p key.Public) { asked = append(asked, p) }})
	peer := newPeer()
	ep := peerEndpoint(t, b, peer)
	for _, bufs := range [][][]byte{{initiation(1)}, {transport(2), transport(3)}, {initiation(4)}} {
		if err := b.Send(bufs, ep); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.take(); len(got) != 0 {
		t.Fatalf("%d packets sent without a path", len(got))
	}
	if len(asked) != 3 || asked[0] != peer {
		t.Errorf("asked %d times for a path, want 3", len(asked))
	}
	setPath(b, peer, here)
	if got := f.take(); len(got) != 1 || !bytes.Equal(got[0], initiation(4)) {
		t.Fatalf("the path brought %d packets, want the newest initiation", len(got))
	}
	setPath(b, peer, netip.AddrPort{})
	setPath(b, peer, netip.AddrPort{})
	if got := f.take(); len(got) != 0 {
		t.Errorf("%d packets sent without a path", len(got))
	}
	s := b.Stats()
	if s.Held != 2 || s.Flushed != 1 || s.Expired != 1 || s.DroppedNoPath != 2 {
		t.Errorf("counters %+v", s)
	}
}

func TestHeldMessageGetsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSocket{}
		b := opened(t, f, Config{})
		peer := newPeer()
		ep := peerEndpoint(t, b, peer)
		b.Send([][]byte{initiation(1)}, ep)
		time.Sleep(holdFor + time.Millisecond)
		setPath(b, peer, here)
		if got := f.take(); len(got) != 0 || b.Stats().Expired != 1 {
			t.Errorf("a message older than 4 s was sent: %d", len(got))
		}
		setPath(b, peer, netip.AddrPort{})
		b.Send([][]byte{initiation(2)}, ep)
		time.Sleep(holdFor - time.Millisecond)
		setPath(b, peer, here)
		if got := f.take(); len(got) != 1 || b.Stats().Flushed != 1 {
			t.Errorf("a fresh message was not sent: %d", len(got))
		}
	})
}

// A peer that comes back from another address sends an initiation before its
// check moves the path, so the response goes to where the peer was.
func TestUnansweredHandshakeFollowsThePath(t *testing.T) {
	synctest.Test(t, unansweredHandshakeFollowsThePath)
}

func unansweredHandshakeFollowsThePath(t *testing.T) {
	f := &fakeSocket{}
	b := opened(t, f, Config{})
	peer := newPeer()
	ep := peerEndpoint(t, b, peer)
	setPath(b, peer, here)
	for _, bufs := range [][][]byte{{initiation(1)}, {transport(2)}} {
		if err := b.Send(bufs, ep); err != nil {
			t.Fatal(err)
		}
	}
	f.take()
	setPath(b, peer, there)
	if got := f.take(); len(got) != 1 || !bytes.Equal(got[0], initiation(1)) {
		t.Fatalf("the new path brought %d packets, want the initiation", len(got))
	}
	setPath(b, peer, there)
	if got := f.take(); len(got) != 0 {
		t.Error("the same path brought the message again")
	}
	// By way of no path at all.
	setPath(b, peer, netip.AddrPort{})
	setPath(b, peer, here)
	if got := f.take(); len(got) != 1 {
		t.Errorf("the path after none brought %d packets, want the initiation", len(got))
	}
	if s := b.Stats(); s.Moved != 2 || s.Held != 0 || s.Flushed != 0 {
		t.Errorf("counters %+v", s)
	}
	// Once it was answered there is nothing to repeat.
	sorted(b, message(2, 92, 0))
	setPath(b, peer, there)
	if got := f.take(); len(got) != 0 {
		t.Error("an answered message was repeated")
	}
}

func TestUnansweredHandshakeGetsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSocket{}
		b := opened(t, f, Config{})
		peer := newPeer()
		setPath(b, peer, here)
		b.Send([][]byte{initiation(1)}, peerEndpoint(t, b, peer))
		time.Sleep(holdFor + time.Millisecond)
		f.take()
		setPath(b, peer, there)
		if got := f.take(); len(got) != 0 || b.Stats().Expired != 0 {
			t.Error("a message older than 4 s was sent, or counted as one that waited")
		}
	})
}

func TestPathIsTheEndpointsAddress(t *testing.T) {
	b := opened(t, &fakeSocket{}, Config{})
	peer := newPeer()
	ep := peerEndpoint(t, b, peer)
	if ep != peerEndpoint(t, b, peer) {
		t.Fatal("a peer has two endpoints")
	}
	if ep.DstIP().IsValid() {
		t.Error("an address without a path")
	}
	setPath(b, peer, netip.MustParseAddrPort("[::ffff:192.0.2.1]:1000"))
	if got := ep.DstIP(); got != here.Addr() {
		t.Errorf("address %s, want %s", got, here.Addr())
	}
	want, _ := here.MarshalBinary()
	if !bytes.Equal(ep.DstToBytes(), want) {
		t.Errorf("bytes %x, want %x", ep.DstToBytes(), want)
	}
	if got := ep.DstToString(); got != "peer:"+peer.Hex() {
		t.Errorf("text %s", got)
	}
	for _, bad := range []string{"0.0.0.0:1", "[::]:1", "224.0.0.1:1", "192.0.2.1:0"} {
		setPath(b, peer, netip.MustParseAddrPort(bad))
		if got := b.Path(peer); got.IsValid() {
			t.Errorf("path %s taken from %s", got, bad)
		}
	}
}

func TestParseEndpoint(t *testing.T) {
	b := newBind(Config{}, &fakeSocket{})
	for _, bad := range []string{"", "peer:", "peer:zz", "peer:00", "peer:" + fmt.Sprintf("%064d", 0), "host:1", "192.0.2.1", "192.0.2.1:70000"} {
		if ep, err := b.ParseEndpoint(bad); err == nil {
			t.Errorf("%q gave %v", bad, ep)
		}
	}
	ep, err := b.ParseEndpoint("[::ffff:192.0.2.1]:1000")
	if err != nil || ep.DstToString() != here.String() {
		t.Errorf("plain endpoint %v, %v", ep, err)
	}
}

func TestForgottenPeer(t *testing.T) { synctest.Test(t, forgottenPeer) }

func forgottenPeer(t *testing.T) {
	f := &fakeSocket{}
	b := opened(t, f, Config{})
	peer := newPeer()
	old := peerEndpoint(t, b, peer)
	setPath(b, peer, here)
	b.Forget(peer)
	if err := b.Send([][]byte{transport(1)}, old); err != nil || len(f.take()) != 0 {
		t.Error("a packet to a forgotten peer was sent")
	}
	if len(*b.table.Load()) != 0 || len(b.peers) != 0 {
		t.Error("something was kept of a forgotten peer")
	}
	setPath(b, peer, there)
	if err := b.Send([][]byte{transport(2)}, old); err != nil || len(f.take()) != 1 {
		t.Error("the old endpoint does not lead to the peer that came back")
	}
	b.Forget(newPeer())
}

func TestTwoPeersClaimOneAddress(t *testing.T) {
	b := opened(t, &fakeSocket{}, Config{})
	first, second := newPeer(), newPeer()
	setPath(b, first, here)
	setPath(b, second, here)
	owner := func() key.Public { return (*b.table.Load())[here].Peer() }
	if owner() != second {
		t.Error("the newer claim does not count")
	}
	setPath(b, second, there)
	if owner() != first {
		t.Error("the older claim did not come back")
	}
	setPath(b, first, netip.AddrPort{})
	if len(*b.table.Load()) != 1 {
		t.Error("an address without a peer was kept")
	}
}

func TestErrorsOfTheSystemAreLoss(t *testing.T) {
	for errno, counter := range map[syscall.Errno]func(SendErrors) uint64{
		syscall.ENETUNREACH:   func(s SendErrors) uint64 { return s.Unreachable },
		syscall.EHOSTUNREACH:  func(s SendErrors) uint64 { return s.Unreachable },
		syscall.EPERM:         func(s SendErrors) uint64 { return s.Denied },
		syscall.ENOBUFS:       func(s SendErrors) uint64 { return s.Full },
		syscall.EAGAIN:        func(s SendErrors) uint64 { return s.Full },
		syscall.EMSGSIZE:      func(s SendErrors) uint64 { return s.TooBig },
		syscall.ECONNREFUSED:  func(s SendErrors) uint64 { return s.Refused },
		syscall.EINVAL:        func(s SendErrors) uint64 { return s.Address },
		syscall.EADDRNOTAVAIL: func(s SendErrors) uint64 { return s.Address },
		syscall.EIO:           func(s SendErrors) uint64 { return s.Other },
	} {
		f := &fakeSocket{onSend: func([][]byte, *conn.StdNetEndpoint) error {
			return &net.OpError{Op: "write", Err: os.NewSyscallError("sendmmsg", errno)}
		}}
		b := opened(t, f, Config{})
		peer := newPeer()
		setPath(b, peer, here)
		plain := &conn.StdNetEndpoint{AddrPort: here}
		for _, ep := range []conn.Endpoint{peerEndpoint(t, b, peer), plain} {
			if err := b.Send([][]byte{transport(1)}, ep); err != nil {
				t.Errorf("%v reached the device: %v", errno, err)
			}
		}
		if got := counter(b.Stats().SendErrors); got != 2 {
			t.Errorf("%v counted %d times, want 2: %+v", errno, got, b.Stats().SendErrors)
		}
		if got := b.Activity(peer); got.TxBytes != 0 || !got.LastSent.IsZero() {
			t.Errorf("%v: counted as sent: %+v", errno, got)
		}
		if err := b.WriteSTUN(stunMessage(0), here); !errors.Is(err, errno) {
			t.Errorf("WriteSTUN returned %v, want %v", err, errno)
		}
	}
}

func TestRefusedBatchGoesOneByOne(t *testing.T) { synctest.Test(t, refusedBatchGoesOneByOne) }

func refusedBatchGoesOneByOne(t *testing.T) {
	var batches int
	f := &fakeSocket{onSend: func(bufs [][]byte, _ *conn.StdNetEndpoint) error {
		if len(bufs) > 1 {
			batches++
			return os.NewSyscallError("sendmmsg", syscall.EINVAL)
		}
		return nil
	}}
	b := opened(t, f, Config{})
	peer := newPeer()
	setPath(b, peer, here)
	ep := peerEndpoint(t, b, peer)
	for range 3 {
		if err := b.Send([][]byte{transport(1), transport(2)}, ep); err != nil {
			t.Fatal(err)
		}
		if got := f.take(); len(got) != 2 {
			t.Fatalf("%d packets sent, want 2", len(got))
		}
	}
	if batches != 1 {
		t.Errorf("the path was tried with %d batches, want 1", batches)
	}
	setPath(b, peer, there)
	b.Send([][]byte{transport(1), transport(2)}, ep)
	if batches != 2 {
		t.Error("a new path is not tried with a batch")
	}
}

func TestSegmentationSwitchedOffIsNoError(t *testing.T) {
	f := &fakeSocket{onSend: func([][]byte, *conn.StdNetEndpoint) error { return conn.ErrUDPGSODisabled{} }}
	b := opened(t, f, Config{})
	if err := b.WriteSTUN(stunMessage(0), here); err != nil {
		t.Error(err)
	}
}

func TestClosedSocket(t *testing.T) {
	f := &fakeSocket{}
	b := newBind(Config{}, f)
	if err := b.WriteSTUN(stunMessage(0), here); !errors.Is(err, net.ErrClosed) {
		t.Errorf("before Open: %v", err)
	}
	peer := newPeer()
	setPath(b, peer, here)
	if _, _, err := b.Open(0); err != nil {
		t.Fatal(err)
	}
	f.onSend = func([][]byte, *conn.StdNetEndpoint) error { return syscall.EAFNOSUPPORT }
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Send([][]byte{transport(1)}, peerEndpoint(t, b, peer)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestEverythingAtOnce(t *testing.T) {
	f := &fakeSocket{}
	b := newBind(Config{Relays: &fakeRelays{}, OnSTUN: func([]byte, netip.AddrPort) {}}, f)
	peers := []key.Public{newPeer(), newPeer(), newPeer()}
	var wg sync.WaitGroup
	for i, peer := range peers {
		ep := peerEndpoint(t, b, peer)
		wg.Go(func() {
			for n := range 500 {
				b.SetRoute(peer, Route{
					Path:  netip.AddrPortFrom(here.Addr(), uint16(n%5)),
					Spare: relaypath.Addr(uint16(n % 3)), Both: n%2 == 0,
				})
			}
		})
		wg.Go(func() {
			for n := range 500 {
				b.Send([][]byte{numbered(byte(1+n%2), uint32(n))}, ep)
				b.Send([][]byte{numbered(4, uint32(n)), transport(2)}, ep)
				b.Activity(peer)
				ep.DstIP()
			}
		})
		wg.Go(func() {
			for n := range 500 {
				sorted(b, frame(uint16(n%3), peer, response(uint32(n), 7)), numbered(4, uint32(n)), frame(1, peer, initiation(byte(n))), stunMessage(0))
				b.Deliver(uint16(n%3), peer, transport(1))
			}
		})
		wg.Go(func() {
			for n := range 200 {
				if i == 0 {
					b.Open(0)
					b.Close()
				}
				b.Forget(peer)
				b.Stats()
				b.WriteSTUN(stunMessage(0), here)
				b.WriteUDP([][]byte{{0xC0}, {0xC1}}, here)
				b.WriteRelay(1, peer, stunMessage(0))
				c, _ := udp(t)
				b.AddSocket(c, netip.AddrPortFrom(here.Addr(), uint16(1+n%4)))
				b.RemoveSocket(netip.AddrPortFrom(here.Addr(), uint16(1+n%4)))
			}
		})
	}
	wg.Wait()
	b.Close()
	if n := b.repeats.pending.Load(); n != 0 {
		t.Errorf("%d messages are repeated after Close", n)
	}
}
