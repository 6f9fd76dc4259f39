package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"nexd/bind"
	"nexd/key"
	"nexd/netstack"
	"nexd/netstack/netstacktest"
	"nexd/tunnel"
)

// stackPair is two real stacks, each behind a tunnel of its own.
func stackPair(t *testing.T) (a, b *netstack.Stack) {
	t.Helper()
	a = netstacktest.Stack(t, 0, netstacktest.A4, netstacktest.A6)
	b = netstacktest.Stack(t, 0, netstacktest.B4, netstacktest.B6)
	var privates [2]key.Private
	var tunnels [2]*tunnel.Tunnel
	var binds [2]*bind.Bind
	for i, s := range []*netstack.Stack{a, b} {
		privates[i] = key.NewPrivate()
		binds[i] = bind.New(bind.Config{})
		tn, err := tunnel.New(tunnel.Config{Private: privates[i], Device: s.Device(), Bind: binds[i]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tn.Close() })
		if err := tn.Up(); err != nil {
			t.Fatal(err)
		}
		tunnels[i] = tn
	}
	for i, s := range []*netstack.Stack{b, a} {
		other := privates[1-i].Public()
		tunnels[i].SetPeers([]tunnel.Peer{{Key: other, Addresses: s.Addresses()}})
		binds[i].SetRoute(other, bind.Route{Path: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), binds[1-i].Port())})
	}
	tunnels[1].Activate(privates[0].Public())
	return a, b
}

func TestStacksTalk(t *testing.T) {
	a, b := stackPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	for _, to := range []netip.Addr{netstacktest.B4, netstacktest.B6} {
		l, err := b.ListenTCP(netip.AddrPortFrom(to, 80))
		if err != nil {
			t.Fatal(err)
		}
		const size = 4 << 20
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			c.Write(make([]byte, size))
		}()
		c, err := a.DialTCP(ctx, netip.AddrPortFrom(to, 80))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(eventually))
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Errorf("%s: read %d bytes, %v", to, n, err)
		}
		c.Close()
		l.Close()
		if _, err := a.Ping(ctx, to); err != nil {
			t.Errorf("ping %s: %v", to, err)
		}
	}
}

func TestDialToNobodyFailsAtOnce(t *testing.T) {
	a, _ := stackPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	for to, want := range map[netip.Addr]syscall.Errno{nobody: syscall.EHOSTUNREACH, nobody6: syscall.ENETUNREACH} {
		start := time.Now()
		c, err := a.DialTCP(ctx, netip.AddrPortFrom(to, 80))
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", to, err, want)
		}
		t.Logf("%s: %v after %v", to, err, time.Since(start))
	}
}
