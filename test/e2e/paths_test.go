//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/internal/stunserver"
	"nexd/test/cluster"
	"nexd/test/need"
)

// TestOneFamily: a link that carries only IPv4, or only IPv6, is enough, for
// mesh addresses of both families.
func TestOneFamily(t *testing.T) {
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			c := cluster.New(t)
			var svc *cluster.Service
			only := func(n *cluster.Node) {
				if family == "IPv4" {
					n.Run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
				} else {
					n.Run("ip", "-4", "addr", "flush", "dev", "eth0")
				}
			}
			if family == "IPv4" {
				svc = c.Serve()
			} else {
				svc = c.Serve("--public-url", "https://[2001:db8::1]:8443")
			}
			only(svc.Node)
			key := svc.RegKey()
			server, client := c.Node("server"), c.Node("client")
			only(server)
			only(client)
			listen(t, server, "tcp", "127.0.0.1:9000", echoAs("app"))
			ingress := c.Proxy(server, "--reg-key", key, "--ingress", "tcp:8000:127.0.0.1:9000").Ready()
			egress := c.Proxy(client, "--reg-key", key, "--egress", "tcp:7000:server:8000").Ready()
			add(egress, "egress tcp:7004:"+ingress.V4()+":8000", "egress tcp:7006:["+ingress.V6()+"]:8000")
			for _, port := range []string{"7000", "7004", "7006"} {
				untilSays(t, "port "+port, client, "tcp", "127.0.0.1:"+port, "app hello")
			}
			egress.Direct("server")
			ingress.Direct("client")
			at := endpoint(t, egress, "server")
			if want := map[string]netip.Addr{"IPv4": server.V4, "IPv6": server.V6}[family]; at.Addr() != want && !at.Addr().IsLinkLocalUnicast() {
				t.Errorf("the path leads to %s, want %s", at, want)
			}
		})
	}
}

// endpoint is where a proxy's direct path to a peer leads.
func endpoint(t *testing.T, p *cluster.Proxy, peer string) netip.AddrPort {
	t.Helper()
	st, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range st.Peers {
		if q.Name == peer {
			at, err := netip.ParseAddrPort(q.Path.Endpoint)
			if err != nil {
				t.Fatalf("endpoint of %s: %v", peer, err)
			}
			return at
		}
	}
	t.Fatalf("no peer %s", peer)
	return netip.AddrPort{}
}

// TestPeerKilled: kill -9 of one proxy during a transfer harms nobody else, and
// the next start is direct again within seconds, also from another port.
func TestPeerKilled(t *testing.T) {
	p := newPair(t, nil, nil)
	other := p.Node("other")
	third := p.Proxy(other, "--reg-key", p.svc.RegKey(), "--egress", "tcp:7001:server:8001").Ready()
	slow := newSource(64<<20, 1<<20, 20*time.Millisecond)
	listen(t, p.server, "tcp", "127.0.0.1:9000", slow.serve)
	listen(t, p.server, "tcp", "127.0.0.1:9001", echoAs("app"))
	add(p.ingress, "ingress tcp:8000:127.0.0.1:9000", "ingress tcp:8001:127.0.0.1:9001")
	add(p.egress, "egress tcp:7000:server:8000", "egress tcp:7001:server:8001")
	untilSays(t, "the other client", other, "tcp", "127.0.0.1:7001", "app hello")
	kept := dial(t, other, "tcp", "127.0.0.1:7001")
	stays := func(when string) {
		t.Helper()
		if got, err := say(kept, "hello"); err != nil || got != "app hello" {
			t.Errorf("%s: the other client's connection: %q, %v", when, got, err)
		}
	}
	stays("before")
	untilSays(t, "traffic", p.client, "tcp", "127.0.0.1:7001", "app hello")

	result := slow.begin(t, p.client, "127.0.0.1:7000")
	p.egress.Kill()
	if err := <-result; err == nil {
		t.Error("the download went on without its proxy")
	}
	stays("after the kill")
	if !p.ingress.Running() || !third.Running() {
		t.Fatal("another daemon ended")
	}
	back := func(what string) {
		t.Helper()
		begun := time.Now()
		untilSays(t, what, p.client, "tcp", "127.0.0.1:7001", "app hello")
		p.egress.Direct("server")
		p.ingress.Direct("client")
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: direct only after %s", what, took)
		}
		stays(what)
	}
	p.egress.Start()
	p.egress.Ready()
	back("the same port again")

	// Another port, as after a NAT that forgot: the peer finds it.
	p.egress.Kill()
	p.egress = p.Proxy(p.client, "--listen-port", "45999").Ready()
	back("another port")
	if at := endpoint(t, p.ingress, "client"); at.Port() != 45999 {
		t.Errorf("the server's path leads to %s", at)
	}
	// The one that is dialled is killed, and comes back elsewhere.
	p.ingress.Kill()
	p.ingress = p.Proxy(p.server, "--listen-port", "45998").Ready()
	begun := time.Now() // both clients have a path and a session that are dead
	untilSays(t, "the server from another port", p.client, "tcp", "127.0.0.1:7001", "app hello")
	untilSays(t, "the server from another port", other, "tcp", "127.0.0.1:7001", "app hello")
	t.Logf("the server's new port took %s", time.Since(begun).Round(time.Millisecond))
	p.egress.Direct("server")
	if at := endpoint(t, p.egress, "server"); at.Port() != 45998 {
		t.Errorf("the client's path leads to %s", at)
	}
}

// TestCableOut: five seconds without a link in the middle of a transfer cost
// time, not the connection, nor one that is silent.
func TestCableOut(t *testing.T) {
	p := newPair(t, nil, nil)
	slow := newSource(16<<20, 256<<10, 25*time.Millisecond)
	listen(t, p.server, "tcp", "127.0.0.1:9000", slow.serve)
	listen(t, p.server, "tcp", "127.0.0.1:9001", echoAs("app"))
	add(p.ingress, "ingress tcp:8000:127.0.0.1:9000", "ingress tcp:8001:127.0.0.1:9001")
	add(p.egress, "egress tcp:7000:server:8000", "egress tcp:7001:server:8001")
	untilSays(t, "traffic", p.client, "tcp", "127.0.0.1:7001", "app hello")
	quiet := dial(t, p.client, "tcp", "127.0.0.1:7001")
	result := slow.begin(t, p.client, "127.0.0.1:7000")
	p.client.Link(false)
	time.Sleep(5 * time.Second) // the time without a cable
	select {
	case err := <-result:
		t.Fatalf("the download ended without a link: %v", err)
	default:
	}
	p.client.Link(true)
	begun := time.Now()
	if err := <-result; err != nil {
		t.Errorf("download: %v", err)
	}
	t.Logf("the rest took %s", time.Since(begun).Round(time.Millisecond))
	if got, err := say(quiet, "hello"); err != nil || got != "app hello" {
		t.Errorf("a connection that was silent meanwhile: %q, %v", got, err)
	}
	p.egress.Direct("server")
}

// capture is tcpdump on the node's link.
type capture struct {
	proc *cluster.Proc
	file string
}

func startCapture(t *testing.T, p *pair, n *cluster.Node) *capture {
	t.Helper()
	c := &capture{file: filepath.Join(p.Dir("capture", 0), n.Name+".pcap")}
	c.proc = n.Start("tcpdump", n.Command("tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-s", "0", "-Z", "root", "-w", c.file))
	cluster.Until(t, 10*time.Second, "tcpdump listens", func() error {
		if !strings.Contains(c.proc.Log(), "listening on") {
			return errors.New(c.proc.Log())
		}
		return nil
	})
	return c
}

// packet is an IP packet of a capture.
type packet struct {
	from, to netip.AddrPort // the ports only of UDP and TCP
	protocol byte
	payload  []byte // of UDP
	raw      []byte
}

// stop ends the capture and returns its IP packets.
func (c *capture) stop(t *testing.T) []packet {
	t.Helper()
	c.proc.Stop()
	b, err := os.ReadFile(c.file)
	if err != nil || len(b) < 24 {
		t.Fatalf("capture: %d bytes, %v", len(b), err)
	}
	var packets []packet
	for b = b[24:]; len(b) >= 16; {
		size := int(binary.LittleEndian.Uint32(b[8:]))
		if len(b) < 16+size {
			break
		}
		if p, ok := parseFrame(b[16 : 16+size]); ok {
			packets = append(packets, p)
		}
		b = b[16+size:]
	}
	return packets
}

func parseFrame(f []byte) (p packet, ok bool) {
	if len(f) < 14+40 {
		return p, false
	}
	var from, to netip.Addr
	ip := f[14:]
	p.raw = f
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0800:
		from, _ = netip.AddrFromSlice(ip[12:16])
		to, _ = netip.AddrFromSlice(ip[16:20])
		p.protocol, ip = ip[9], ip[int(ip[0]&15)*4:]
	case 0x86dd:
		from, _ = netip.AddrFromSlice(ip[8:24])
		to, _ = netip.AddrFromSlice(ip[24:40])
		p.protocol, ip = ip[6], ip[40:]
	default:
		return p, false
	}
	p.from, p.to = netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0)
	if (p.protocol == 17 || p.protocol == 6) && len(ip) >= 8 {
		p.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ip))
		p.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(ip[2:]))
		if p.protocol == 17 {
			p.payload = ip[8:]
		}
	}
	return p, true
}

func (p packet) wireGuard() bool {
	return len(p.payload) >= 32 && p.payload[0] >= 1 && p.payload[0] <= 4 && bytes.Equal(p.payload[1:4], []byte{0, 0, 0})
}

func (p packet) stun() bool {
	return len(p.payload) >= 20 && p.payload[0] < 0x40 && bytes.Equal(p.payload[4:8], []byte{0x21, 0x12, 0xa4, 0x42})
}

// TestOnTheWire: between two nodes there is nothing but WireGuard and STUN in
// UDP, and nothing of what the applications say; and what the flags of the
// paths promise is seen on the link.
func TestOnTheWire(t *testing.T) {
	need.Programs(t, "tcpdump", "ss")
	p := newPair(t, []string{"--ingress", "tcp:8000:127.0.0.1:9000", "--ingress", "udp:8000:127.0.0.1:9000"}, nil)
	listen(t, p.server, "tcp", "127.0.0.1:9000", echoAs("app"))
	listenUDP(t, p.server, "127.0.0.1:9000", "app ")
	p.egress.Stop()

	// A STUN server besides the service's own, and two further addresses of the client.
	second, err := inside(p.svc.Node, func() (net.PacketConn, error) { return net.ListenPacket("udp4", p.svc.Node.V4.String()+":3999") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { stunserver.New(second, slog.New(slog.DiscardHandler)).Run(ctx) })
	t.Cleanup(func() { cancel(); second.Close(); wg.Wait() })
	const local, static, port = "192.0.2.99", "192.0.2.98:45678", 45678
	p.client.Run("ip", "addr", "add", local+"/24", "dev", "eth0")
	p.client.Run("ip", "addr", "add", "192.0.2.98/24", "dev", "eth0")
	wire := startCapture(t, p, p.client)

	p.egress = p.ProxyIn(p.client, "seen", "--reg-key", p.svc.RegKey(), "--egress", "tcp:7000:server:8000", "--egress", "udp:7000:server:8000",
		"--request-ip", "100.64.9.9", "--listen-port", fmt.Sprint(port), "--local-endpoint-ip", local, "--endpoint", static,
		"--stun-server", second.LocalAddr().String()).Ready()
	if got := p.egress.V4(); got != "100.64.9.9" {
		t.Errorf("--request-ip 100.64.9.9 gave %s", got)
	}
	if out := p.client.Run("ss", "-Huln", fmt.Sprintf("sport = :%d", port)); strings.TrimSpace(out) == "" {
		t.Errorf("nothing listens on UDP port %d", port)
	}
	marker := "marker-" + strings.Repeat("0123456789abcdef", 8)
	for _, network := range []string{"tcp", "udp"} {
		cluster.Until(t, 20*time.Second, "traffic", func() error {
			got, err := sayOnce(p.client, network, "127.0.0.1:7000", marker)
			if err == nil && got != "app "+marker {
				err = fmt.Errorf("got %q", got)
			}
			return err
		})
	}
	p.egress.Direct("server")
	mapped := netip.AddrPortFrom(p.client.V4, port)
	cluster.Until(t, 10*time.Second, "the address that the STUN server tells", func() error {
		st, err := p.egress.Status()
		if err == nil && !strings.Contains(fmt.Sprint(st.NAT.Mapped), mapped.String()) {
			err = fmt.Errorf("mapped %v", st.NAT.Mapped)
		}
		return err
	})
	packets := wire.stop(t)

	ofServer := map[netip.Addr]bool{p.server.V4: true, p.server.V6: true}
	ofService := map[netip.Addr]bool{p.svc.Node.V4: true, p.svc.Node.V6: true}
	seen, shown := map[string]int{}, map[netip.AddrPort]bool{}
	for _, q := range packets {
		if bytes.Contains(q.raw, []byte("marker-")) || bytes.Contains(q.raw, []byte("0123456789abcdef")) {
			t.Fatalf("what the application said is on the wire: %s → %s", q.from, q.to)
		}
		switch {
		case ofServer[q.from.Addr()] || ofServer[q.to.Addr()]:
			kind := fmt.Sprintf("protocol %d", q.protocol)
			switch {
			case q.wireGuard():
				kind = "WireGuard"
			case q.stun():
				kind = "STUN"
			case q.protocol == 58 || q.protocol == 1: // neighbours, unreachable ports
				kind = "ICMP"
			}
			seen[kind]++
			switch {
			case !q.stun():
			case !ofServer[q.from.Addr()]:
				shown[q.from] = true // who is asked from an address may answer there
			case !shown[q.to]:
				seen["unasked check to "+q.to.String()]++
				fallthrough
			default:
				seen["check to "+q.to.String()]++
			}
		case q.stun() && ofService[q.to.Addr()]:
			seen["question to "+q.to.String()]++
		}
	}
	t.Log(seen)
	for kind := range seen {
		if strings.HasPrefix(kind, "protocol ") {
			t.Errorf("between the nodes there is %s: %v", kind, seen)
		}
	}
	for _, want := range []string{
		"WireGuard", "STUN", "check to " + static, fmt.Sprintf("check to %s:%d", local, port),
		"question to " + second.LocalAddr().String(),
	} {
		if seen[want] == 0 {
			t.Errorf("no %s on the wire: %v", want, seen)
		}
	}
	if n := seen["question to "+netip.AddrPortFrom(p.svc.Node.V4, 3478).String()]; n > 0 {
		t.Errorf("%d questions to the service's STUN server although another one was named", n)
	}
	if n := seen["unasked check to "+netip.AddrPortFrom(p.client.V6, port).String()]; n > 0 {
		t.Errorf("%d checks to an address that --local-endpoint-ip keeps back", n)
	}
}
