//go:build linux

package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStockPeer: the data plane of a member and Debian's wireguard-go, with the
// kernel's TCP/IP behind it, are peers like others: either begins, both kinds of
// addresses inside and outside, and MTUs of which neither side tells the other.
// What ours emits meanwhile is right to the last checksum.
func TestStockPeer(t *testing.T) {
	for _, c := range []struct {
		ourMTU, stockMTU int
		v6Outside        bool
	}{
		{1420, 1420, true}, // 1,500 bytes outside
		{1280, 1280, false},
		{1280, 1420, false},
	} {
		t.Run(fmt.Sprintf("%d to %d", c.ourMTU, c.stockMTU), func(t *testing.T) {
			a := newAgainst(t, c.ourMTU, c.stockMTU, c.v6Outside)
			inner, outer := a.record(t)
			a.begin(t)
			a.pings(t)
			a.streams(t)
			a.datagrams(t, c.ourMTU, c.stockMTU)
			a.closedPorts(t)
			a.shortConnections(t)
			a.rekey(t)
			a.judge(t, inner, outer, c.ourMTU)
		})
	}
}

// begin has each side begin while the other one cannot, and ends with a session.
func (a *against) begin(t *testing.T) {
	t.Helper()
	// The stock peer has no endpoint of ours.
	a.stock.add(a.plane.key, netip.AddrPort{}, ourMesh...)
	a.plane.add(a.stock.key, a.there, stockMesh...)
	a.ping(t, stockMesh[0])
	a.stock.began("nexd has a session, and began it", -1, 0)
	a.stock.forget(a.plane.key)
	a.plane.forget()

	// Ours sends nothing, and WireGuard has not even heard of the peer.
	a.plane.add(a.stock.key, a.there, stockMesh...)
	a.stock.add(a.plane.key, a.here, ourMesh...)
	if err := a.pingFromStock(ourMesh[0], 56); err != nil {
		t.Fatalf("the stock peer begins: %v", err)
	}
	a.stock.began("the stock peer has a session, and began it", 0, -1)
}

func (a *against) ping(t *testing.T, to netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := a.plane.Ping(ctx, to); err != nil {
		t.Fatalf("ping %s: %v", to, err)
	}
}

func (a *against) pings(t *testing.T) {
	t.Helper()
	for i := range ourMesh {
		a.ping(t, stockMesh[i])
		for _, size := range []int{0, 56, 3001} {
			if err := a.pingFromStock(ourMesh[i], size); err != nil {
				t.Errorf("stock pings %s with %d bytes: %v", ourMesh[i], size, err)
			}
		}
	}
}

// streams: bulk in both directions, whoever dialled.
func (a *against) streams(t *testing.T) {
	t.Helper()
	ours, theirs := a.sides(t)
	for _, pair := range [][2]side{{ours, theirs}, {theirs, ours}} {
		for family := range ourMesh {
			var wg sync.WaitGroup
			for _, talk := range []func(net.Conn, bool) error{oneAfterTheOther, bothAtOnce} {
				wg.Go(func() {
					if err := converse(pair[0], pair[1], family, talk); err != nil {
						t.Errorf("%s dials %s of %s: %v", pair[0].name, pair[1].addr[family], pair[1].name, err)
					}
				})
			}
			wg.Wait()
		}
	}
}

// datagrams of all sizes, and back.
func (a *against) datagrams(t *testing.T, mtus ...int) {
	t.Helper()
	sizes := []int{1, 0, 2, 3, 1200, 4001, 9000, math.MaxUint16 - 28}
	for _, mtu := range mtus {
		for _, headers := range []int{28, 48} {
			sizes = append(sizes, mtu-headers-1, mtu-headers, mtu-headers+1)
		}
	}
	ours, theirs := a.sides(t)
	for _, pair := range [][2]side{{ours, theirs}, {theirs, ours}} {
		client, server := pair[0], pair[1]
		for family := range ourMesh {
			pc, err := server.listenUDP(netip.AddrPortFrom(server.addr[family], 0))
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { mirror(pc) })
			c, err := client.dial("udp", addrPort(pc.LocalAddr()))
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range sizes {
				datagram := make([]byte, size)
				rand.Read(datagram)
				if err := exchange(c, datagram); err != nil {
					t.Errorf("%s sends %d bytes to %s of %s: %v", client.name, size, server.addr[family], server.name, err)
				}
			}
			c.Close()
			pc.Close()
			wg.Wait()
		}
	}
}

// mirror sends every datagram back until pc is closed.
func mirror(pc net.PacketConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		pc.WriteTo(b[:n], from)
	}
}

// closedPorts: what ours answers to nobody's packets.
func (a *against) closedPorts(t *testing.T) {
	t.Helper()
	_, theirs := a.sides(t)
	for _, to := range ourMesh {
		c, err := theirs.dial("tcp", netip.AddrPortFrom(to, 9))
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("stock dials a closed port of %s: %v", to, err)
		}
		u, err := theirs.dial("udp", netip.AddrPortFrom(to, 9))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			u.SetDeadline(time.Now().Add(2 * time.Second))
			if _, err = u.Write([]byte("x")); err == nil {
				_, err = u.Read(make([]byte, 1))
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
		}
		u.Close()
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("stock sends to a closed port of %s: %v", to, err)
		}
	}
}

// shortConnections say a word and end, by a half-close or a reset.
func (a *against) shortConnections(t *testing.T) {
	t.Helper()
	ours, theirs := a.sides(t)
	for _, pair := range [][2]side{{ours, theirs}, {theirs, ours}} {
		for family := range ourMesh {
			for i := range 10 {
				err := converse(pair[0], pair[1], family, func(c net.Conn, client bool) error {
					if !client {
						_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
						if isReset(err) && i%5 == 4 {
							err = nil
						}
						return err
					}
					if got, err := say(c, "hello"); err != nil || got != "hello" {
						return fmt.Errorf("said hello, heard %q, %w", got, err)
					}
					if i%5 == 4 {
						return reset(c)
					}
					if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
						return err
					}
					if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						return fmt.Errorf("after the end: %d bytes, %v", n, err)
					}
					return nil
				})
				if err != nil {
					t.Errorf("%s dials %s for a word: %v", pair[0].name, pair[1].name, err)
				}
			}
		}
	}
}

// rekey has each side lose its session while a connection is open, and begin anew.
func (a *against) rekey(t *testing.T) {
	t.Helper()
	ours, theirs := a.sides(t)
	err := converse(ours, theirs, 0, func(c net.Conn, client bool) error {
		if !client {
			_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			return err
		}
		word := func(when string) error {
			if got, err := say(c, when); err != nil || got != when {
				return fmt.Errorf("%s: heard %q, %w", when, got, err)
			}
			return nil
		}
		if err := word("before"); err != nil {
			return err
		}
		itself, _ := a.stock.handshakes()
		a.stock.forget(a.plane.key)
		a.stock.add(a.plane.key, a.here, ourMesh...)
		if err := a.pingFromStock(ourMesh[0], 56); err != nil {
			return err
		}
		a.stock.began("the stock peer lost its session and made another", itself, -1)
		if err := word("after the stock peer began anew"); err != nil {
			return err
		}
		_, other := a.stock.handshakes()
		a.plane.forget()
		a.plane.add(a.stock.key, a.there, stockMesh...)
		if err := word("after nexd began anew"); err != nil {
			return err
		}
		a.stock.began("nexd lost its session and made another", -1, other)
		return c.(interface{ CloseWrite() error }).CloseWrite()
	})
	if err != nil {
		t.Errorf("rekey: %v", err)
	}
}

// judge ends the recordings: every packet in them must be right.
func (a *against) judge(t *testing.T, inner, outer *recording, mtu int) {
	t.Helper()
	const tcp, udp = 6, 17
	outside := byte(4)
	if a.here.Addr().Is6() {
		outside = 6
	}
	p := judge(t,
		check{inner, false, map[string]int{
			"tcp4": 1000, "tcp6": 1000, "udp4": 20, "udp6": 20, "icmp4": 3, "icmp6": 3,
			"fragment4": 50, "fragment6": 50, "whole4": 5, "whole6": 5,
		}, []damage{
			badHeader, badPayload(4, tcp), badPayload(6, tcp), badPayload(4, udp), badPayload(6, udp),
			badUDPLength(4), badUDPLength(6), badLength(4), badLength(6),
		}},
		check{outer, true, map[string]int{fmt.Sprintf("udp%d", outside): 5000}, []damage{
			badPayload(outside, udp), badUDPLength(outside), badLength(outside),
		}},
	)[0]
	for size := range p.sizes {
		if size > mtu {
			t.Errorf("inside: a packet of %d bytes, more than the MTU of %d", size, mtu)
		}
	}
	// TCP keeps 40 bytes free for options and uses 12 of them.
	if p.sizes[mtu-28] < 1000 || p.sizes[mtu] < 5 {
		t.Errorf("inside: %d packets of whole segments and %d as long as the MTU: nothing large was cut", p.sizes[mtu-28], p.sizes[mtu])
	}
}
