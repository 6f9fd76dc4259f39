//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nexd/portmap"
	"nexd/test/need"
	"nexd/test/netns"
)

// asMapper makes the test binary a program that has its UDP port mapped.
const asMapper = "NEXD_TEST_LAB_MAPPER"

// TestMapper is that program: it prints what it offers, answers each packet
// with the same, and ends with SIGTERM.
func TestMapper(t *testing.T) {
	if os.Getenv(asMapper) == "" {
		return // it is not
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: 40404})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	m := portmap.New(portmap.Config{
		Port:     conn.LocalAddr().(*net.UDPAddr).AddrPort().Port,
		OnChange: func(a []netip.AddrPort) { fmt.Println("offers", a) },
		Secret:   []byte("of the test"),
		Log:      slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := m.Run(ctx); err != nil {
		t.Error(err)
	}
}

// startPortMapper starts it on a node.
func startPortMapper(t *testing.T, n *Node) *netns.Proc {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.Command(self, "-test.run=^TestMapper$")
	cmd.Env = append(os.Environ(), asMapper+"=1")
	return n.Start("mapper", cmd)
}

// says waits until the program's last line about a thing satisfies ok.
func says(t *testing.T, p *netns.Proc, what string, ok func(line string) bool) string {
	t.Helper()
	var last string
	netns.Until(t, 30*time.Second, "the mapper says "+what, func() error {
		for line := range strings.Lines(p.Log()) {
			if strings.Contains(line, what) {
				last = strings.TrimSpace(line)
			}
		}
		if last == "" || !ok(last) {
			return fmt.Errorf("it says %q", last)
		}
		return nil
	})
	return last
}

// offer waits for an offered address that has ip and returns it.
func offer(t *testing.T, p *netns.Proc, ip netip.Addr) netip.AddrPort {
	t.Helper()
	line := says(t, p, "offers", func(line string) bool { return strings.Contains(line, "["+ip.String()+":") })
	return netip.MustParseAddrPort(strings.Trim(strings.Fields(line)[1], "[]"))
}

// answered reports whether a packet to an address comes back from there.
func answered(t *testing.T, from *netns.Host, to netip.AddrPort, limit time.Duration) bool {
	t.Helper()
	c := listen(t, from, "udp4")
	b := make([]byte, 64)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		c.WriteToUDPAddrPort([]byte("are you there?"), to)
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, src, err := c.ReadFromUDPAddrPort(b); err == nil && string(b[:n]) == "are you there?" {
			return netip.AddrPortFrom(src.Addr().Unmap(), src.Port()) == to
		}
	}
	return false
}

// Behind a symmetric NAT whose router maps ports, a stranger reaches the node;
// also after the router got another address, and no longer when it ended.
func TestMapped(t *testing.T) {
	t.Parallel()
	l := New(t)
	s := l.Site(Symmetric, Options{PortMapping: true})
	p := startPortMapper(t, s.Node(1))
	at := offer(t, p, s.Outside())
	if !answered(t, l.Pub, at, 5*time.Second) {
		t.Errorf("%s does not answer\n%s", at, p.Log())
	}
	s.Roam() // it announces that
	at = offer(t, p, s.Outside())
	if !answered(t, l.Pub, at, 5*time.Second) {
		t.Errorf("after the router moved: %s does not answer\n%s", at, p.Log())
	}
	p.Stop()
	takenBack(t, s)
}

// takenBack waits until the router has no mapping any more: it may hear the last word
// of a program after its end.
func takenBack(t *testing.T, s *Site) {
	t.Helper()
	netns.Until(t, 5*time.Second, "the mapping is taken back", func() error {
		if left := s.mapper.list(); len(left) > 0 {
			return fmt.Errorf("there is %v", left)
		}
		return nil
	})
}

// A mapping at the home's router is of no use behind a carrier's NAT.
func TestMappedBehindCarrier(t *testing.T) {
	t.Parallel()
	l := New(t)
	s := l.Site(PortRestricted, Options{PortMapping: true, Via: l.Carrier(Symmetric, Options{})})
	p := startPortMapper(t, s.Node(1))
	says(t, p, "port mapping is of no use", func(line string) bool { return strings.Contains(line, "the gateway itself is behind a NAT") })
	if strings.Contains(p.Log(), "offers") {
		t.Error("it is offered")
	}
	takenBack(t, s)
	p.Stop()
}

// The same with what many home routers run: PCP and NAT-PMP, then UPnP alone.
func TestMappedByMiniUPnPd(t *testing.T) {
	t.Parallel()
	need.Programs(t, "miniupnpd")
	l := New(t)
	for _, protocol := range []string{portmap.PCP, portmap.UPnP} {
		s := l.Site(Symmetric, Options{})
		startMiniUPnPd(t, s, protocol)
		p := startPortMapper(t, s.Node(1))
		says(t, p, "port mapped", func(line string) bool { return strings.Contains(line, "protocol="+protocol) })
		at := netip.AddrPortFrom(s.Outside(), offer(t, p, publicAddress).Port())
		if !answered(t, l.Pub, at, 5*time.Second) {
			t.Errorf("%s: %s does not answer\n%s", protocol, at, p.Log())
		}
		p.Signal(syscall.SIGKILL) // leaves its mapping behind
		p.Wait(5 * time.Second)
		if rules := s.router.Run("nft", "list", "table", "inet", "miniupnpd"); !strings.Contains(rules, fmt.Sprint(at.Port())) {
			t.Errorf("%s: no mapping of %d in\n%s", protocol, at.Port(), rules)
		}
		p = startPortMapper(t, s.Node(1)) // takes it over
		if again := offer(t, p, publicAddress); again.Port() != at.Port() {
			t.Errorf("%s: after a crash it has %s, before %s", protocol, again, at)
		}
		p.Stop()
		netns.Until(t, 5*time.Second, "the mapping is taken back", func() error {
			if rules := s.router.Run("nft", "list", "table", "inet", "miniupnpd"); strings.Contains(rules, fmt.Sprint(at.Port())) {
				return errors.New(rules)
			}
			return nil
		})
	}
}

// publicAddress is what miniupnpd is told to be its address outside: it does
// not believe in the lab's, which are reserved for tests. Nothing is sent there.
var publicAddress = netip.MustParseAddr("11.22.33.44")

// startMiniUPnPd runs it on the site's router, until the test ends.
func startMiniUPnPd(t *testing.T, s *Site, protocol string) {
	t.Helper()
	s.router.NFT(`table inet miniupnpd {
		chain prerouting { type nat hook prerouting priority -105; policy accept; jump prerouting_miniupnpd; }
		chain forward { type filter hook forward priority -5; policy accept; jump miniupnpd; }
		chain miniupnpd { }
		chain prerouting_miniupnpd { }
		chain postrouting_miniupnpd { }
	}`)
	dir := t.TempDir()
	answer := map[bool]string{true: "yes", false: "no"}
	config := fmt.Sprintf(`ext_ifname=wan0
ext_ip=%s
listening_ip=%s
port=0
enable_natpmp=%s
enable_upnp=%s
secure_mode=yes
ipv6_disable=yes
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=00000000-0000-0000-0000-00000000000a
allow 1024-65535 0.0.0.0/0 1024-65535
`, publicAddress, "br0", answer[protocol == portmap.PCP], answer[protocol == portmap.UPnP])
	file := filepath.Join(dir, "miniupnpd.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d := s.router.Start("miniupnpd", s.router.Command("miniupnpd", "-d", "-f", file, "-P", filepath.Join(dir, "pid")))
	ready := map[string]string{portmap.PCP: "Listening for NAT-PMP/PCP", portmap.UPnP: "HTTP listening on port"}[protocol]
	netns.Until(t, 10*time.Second, "miniupnpd listens", func() error {
		if !strings.Contains(d.Log(), ready) {
			return errors.New(d.Log())
		}
		return nil
	})
}
