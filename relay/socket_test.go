package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"nexd/internal/stunserver"
	"nexd/internal/stunwire"
	"nexd/key"
	"nexd/test/need"
)

// One socket for both families, and one port for the relay and STUN.
func TestOnePortForAll(t *testing.T) {
	others := NewOthers()
	r := newRelay(t, func(r *testRelay) { r.other = others.Take })
	r.stop()
	r.start("[::]:0")
	port := r.udp.Port()
	v4 := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	v6 := netip.AddrPortFrom(netip.MustParseAddr("::1"), port)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- stunserver.New(others, nil).Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stun: %v", err)
		}
	}()
	for _, to := range []netip.AddrPort{v4, v6} {
		c, err := net.Dial("udp", to.String())
		if err != nil {
			need.Missing(t, err.Error())
		}
		defer c.Close()
		id := stunwire.NewTxID()
		c.Write(stunwire.AppendRequest(nil, id))
		c.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 1500)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := stunwire.Parse(b[:n]); err != nil || m.ID != id || m.Mapped.String() != c.LocalAddr().String() {
			t.Errorf("%+v, %v", m, err)
		}
	}

	at := func(a netip.AddrPort, local string) nodeOption {
		return func(n *testNode, c *ClientConfig) {
			c.URL, c.UDP, n.local = "", []string{a.String()}, local
		}
	}
	a, b := r.node("net", at(v4, "127.0.0.1:0")), r.node("net", at(v6, "[::1]:0"))
	a.reaches(b, "from v4 to v6")
	b.reaches(a, "from v6 to v4")
}

func TestOthers(t *testing.T) {
	o := NewOthers()
	for range 2 * othersQueue {
		o.Take(nil, []byte("x"), netip.MustParseAddrPort("127.0.0.1:1"))
	}
	o.Take(nil, make([]byte, maxOther+1), netip.MustParseAddrPort("127.0.0.1:1"))
	if len(o.queue) != othersQueue || o.Dropped() != othersQueue+1 {
		t.Errorf("%d wait, %d were dropped", len(o.queue), o.Dropped())
	}
	for range othersQueue {
		if _, _, err := o.ReadFrom(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	o.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, _, err := o.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	o.SetReadDeadline(time.Time{})
	o.Close()
	o.Close()
	if _, _, err := o.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestListen(t *testing.T) {
	first, err := Listen(t.Context(), "127.0.0.1:0", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first[0].conn.Close()
	if _, err := Listen(t.Context(), first[0].LocalAddr().String(), 1, nil); err == nil || !strings.Contains(err.Error(), first[0].LocalAddr().String()) {
		t.Errorf("an address in use: %v", err)
	}
	s, err := NewServer(ServerConfig{Private: key.NewPrivate(), Issuers: issuers{newService(t).public}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Listen(t.Context(), "127.0.0.1:0", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	second[0].conn.Close()
	if err := s.Run(t.Context(), second...); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a socket closed by somebody else: %v", err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run twice")
	}
}

func TestConfigsSayWhatIsWrong(t *testing.T) {
	good := ServerConfig{Private: key.NewPrivate(), Issuers: issuers{newService(t).public}}
	for want, change := range map[string]func(*ServerConfig){
		"Private":      func(c *ServerConfig) { c.Private = key.Private{} },
		"no Issuers":   func(c *ServerConfig) { c.Issuers = nil },
		"9 Issuers":    func(c *ServerConfig) { c.Issuers = make(issuers, 9) },
		"of 3 bytes":   func(c *ServerConfig) { c.Issuers = issuers{{1, 2, 3}} },
		"Limits.Queue": func(c *ServerConfig) { c.Limits.Queue = 10 },
	} {
		c := good
		change(&c)
		if _, err := NewServer(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	client := ClientConfig{Private: key.NewPrivate(), Relay: key.NewPrivate().Public(), URL: "https://relay.example", Credential: func() []byte { return nil }}
	for want, change := range map[string]func(*ClientConfig){
		"Credential": func(c *ClientConfig) { c.Credential = nil },
		"neither":    func(c *ClientConfig) { c.URL = "" },
		"not a URL":  func(c *ClientConfig) { c.URL = "relay" },
		"not set":    func(c *ClientConfig) { c.Relay = key.Public{} },
	} {
		c := client
		change(&c)
		if _, err := NewClient(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Forwarding between UDP clients allocates nothing.
func TestForwardingDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	service := newService(t)
	s, err := NewServer(ServerConfig{Private: key.NewPrivate(), Issuers: issuers{service.public}})
	if err != nil {
		t.Fatal(err)
	}
	home, err := Listen(t.Context(), "127.0.0.1:0", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer home[0].conn.Close()
	r := &testRelay{t: t, service: service, server: s, sockets: home}
	r.seatUDP(1)
	r.seatUDP(2)
	net := NetworkOf("net")
	a, b := s.table.session(net, somebody(1)), s.table.session(net, somebody(2))
	a.open(1, b.device)
	b.open(1, a.device)
	f := newForwarder(s, home[0])
	from := a.link.Load().addr
	const n = 16
	one := append(appendHeader(nil, header{FrameData, 1, a.tag}), make([]byte, 1000)...)
	packets := make([]byte, 0, n*len(one))
	allocs := testing.AllocsPerRun(200, func() {
		packets = packets[:0]
		for range n {
			packets = append(packets, one...)
		}
		f.begin()
		f.datagram(home[0], packets, len(one), from)
		f.flush()
	})
	if allocs > 0 {
		t.Errorf("%v allocations for %d packets", allocs, n)
	}
	if got := s.Stats(); got.PacketsUDP == 0 || got.PacketsUDP%n != 0 {
		t.Errorf("stats %+v", got)
	}
}
