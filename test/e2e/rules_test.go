//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/test/cluster"
)

// TestRuleForms: ranges, unix sockets, addresses to listen on, and both
// protocols on one port.
func TestRuleForms(t *testing.T) {
	p := newPair(t, nil, nil)
	add(p.ingress, "ingress tcp:8000-8009:127.0.0.1:9000-9009")
	add(p.egress, "egress tcp:7000-7009:server:8000-8009")
	for i := range 10 {
		listen(t, p.server, "tcp", fmt.Sprintf("127.0.0.1:%d", 9000+i), echoAs(fmt.Sprintf("n%d", i)))
	}
	for i := range 10 {
		untilSays(t, "port of a range", p.client, "tcp", fmt.Sprintf("127.0.0.1:%d", 7000+i), fmt.Sprintf("n%d hello", i))
	}

	// A unix socket as the destination, in a directory the daemon's user may enter.
	socket := filepath.Join(p.Dir("sock", p.server.UID), "app.sock")
	listen(t, p.server, "unix", socket, echoAs("unix"))
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	add(p.ingress, "ingress tcp:8100:unix:"+socket)

	// An egress rule that names its address listens there and nowhere else; one
	// that names none listens on loopback only, of both families.
	v4, v6 := p.client.V4.String(), p.client.V6.String()
	add(p.egress, "egress tcp:7100:server:8100",
		"egress tcp:"+v4+":7101:server:8100", "egress tcp:["+v6+"]:7102:server:8100", "egress tcp:[::]:7103:server:8100", "egress tcp:0.0.0.0:7104:server:8100")
	for _, l := range []struct {
		port int
		at   []string
		not  []string
	}{
		{7100, []string{"127.0.0.1", "::1"}, []string{v4, v6}},
		{7101, []string{v4}, []string{"127.0.0.1", "::1", v6}},
		{7102, []string{v6}, []string{"127.0.0.1", "::1", v4}},
		{7103, []string{"127.0.0.1", "::1", v4, v6}, nil},
		{7104, []string{"127.0.0.1", v4}, []string{"::1", v6}},
	} {
		for _, host := range l.at {
			untilSays(t, fmt.Sprintf("port %d at %s", l.port, host), p.client, "tcp", net.JoinHostPort(host, fmt.Sprint(l.port)), "unix hello")
		}
		for _, host := range l.not {
			if got, err := sayOnce(p.client, "tcp", net.JoinHostPort(host, fmt.Sprint(l.port)), "hello"); err == nil {
				t.Errorf("port %d is open at %s, too: %q", l.port, host, got)
			}
		}
	}
	// From another host: the address that was named, not the loopback ones.
	wantSay(t, "from another host", p.server, "tcp", net.JoinHostPort(v6, "7102"), "unix hello")

	// BIND of an ingress rule is one of the device's mesh addresses.
	m4, m6 := p.ingress.V4(), p.ingress.V6()
	add(p.ingress, "ingress tcp:"+m4+":8200:127.0.0.1:9004", "ingress tcp:["+m6+"]:8200:127.0.0.1:9006", "ingress tcp:192.0.2.77:8201:127.0.0.1:9000")
	add(p.egress, "egress tcp:7204:"+m4+":8200", "egress tcp:7206:["+m6+"]:8200")
	untilSays(t, "bound to the IPv4 mesh address", p.client, "tcp", "127.0.0.1:7204", "n4 hello")
	untilSays(t, "bound to the IPv6 mesh address", p.client, "tcp", "127.0.0.1:7206", "n6 hello")
	untilRule(t, p.ingress, "tcp:192.0.2.77:8201:127.0.0.1:9000", "failed", "192.0.2.77")
	remove(p.ingress, "ingress tcp:192.0.2.77:8201:127.0.0.1:9000")

	// UDP and TCP on the same port are two rules.
	listenUDP(t, p.server, "127.0.0.1:9000", "udp ")
	add(p.ingress, "ingress udp:8000:127.0.0.1:9000")
	add(p.egress, "egress udp:7000:server:8000")
	untilSays(t, "udp beside tcp", p.client, "udp", "127.0.0.1:7000", "udp hello")
	wantSay(t, "tcp beside udp", p.client, "tcp", "127.0.0.1:7000", "n0 hello")
	for _, proxy := range []*cluster.Proxy{p.ingress, p.egress} {
		if st, err := proxy.Status(); err != nil || !st.Ready {
			t.Errorf("%s: ready %v %v, %v", proxy.Name, st.Ready, st.Reasons, err)
		}
	}
}

// TestAllow: a rule that names who may come refuses everybody else with a reset.
func TestAllow(t *testing.T) {
	p := newPair(t, nil, nil)
	other := p.Node("other")
	third := p.Proxy(other, "--reg-key", p.svc.RegKey()).Ready()
	listen(t, p.server, "tcp", "127.0.0.1:9000", echoAs("app"))
	listenUDP(t, p.server, "127.0.0.1:9000", "app ")
	add(p.ingress,
		"ingress tcp:8001:127.0.0.1:9000,allow=client",
		"ingress tcp:8002:127.0.0.1:9000,allow="+p.egress.V4()+"/32,allow="+p.egress.V6()+"/128",
		"ingress tcp:8003:127.0.0.1:9000,allow=other,allow=client",
		"ingress tcp:8004:127.0.0.1:9000,allow=nobody",
		"ingress udp:8001:127.0.0.1:9000,allow=client")
	m4, m6 := p.ingress.V4(), p.ingress.V6()
	for i := 1; i <= 4; i++ {
		for _, proxy := range []*cluster.Proxy{p.egress, third} {
			add(proxy, fmt.Sprintf("egress tcp:740%d:%s:800%d", i, m4, i), fmt.Sprintf("egress tcp:760%d:[%s]:800%d", i, m6, i))
		}
	}
	add(p.egress, "egress udp:7401:server:8001")
	add(third, "egress udp:7401:server:8001")
	passes := func(n *cluster.Node, port int) {
		t.Helper()
		untilSays(t, fmt.Sprintf("%s on %d", n.Name, port), n, "tcp", fmt.Sprintf("127.0.0.1:%d", port), "app hello")
	}
	refused := func(n *cluster.Node, port int) {
		t.Helper()
		wantRefused(t, fmt.Sprintf("%s on %d", n.Name, port), n, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for _, family := range []int{7400, 7600} {
		passes(p.client, family+1)
		passes(p.client, family+2)
		passes(p.client, family+3)
		passes(other, family+3)
		refused(other, family+1)
		refused(other, family+2)
		refused(p.client, family+4)
		refused(other, family+4)
	}
	untilSays(t, "udp of the allowed device", p.client, "udp", "127.0.0.1:7401", "app hello")
	c := dial(t, other, "udp", "127.0.0.1:7401")
	c.SetDeadline(time.Now().Add(time.Second))
	if got, err := say(c, "hello"); err == nil {
		t.Errorf("udp of the third device: %q", got)
	}
	// The name is the device's, not a word of the client: a new owner of the name
	// is another device only once the service says so.
	p.svc.Ctl("device", "delete", "client")
	cluster.Until(t, 10*time.Second, "the deleted device is refused", func() error {
		if got, err := sayOnce(p.client, "tcp", "127.0.0.1:7401", "hello"); err == nil {
			return fmt.Errorf("still %q", got)
		}
		return nil
	})
}

// TestOnlyDeclaredPorts: a peer finds nothing but the declared rule, however it
// looks: not the services of the host's loopback, not the daemon's own, not the
// host's other addresses.
func TestOnlyDeclaredPorts(t *testing.T) {
	p := newPair(t, []string{"--ops-listen", "127.0.0.1:9500"}, nil)
	heard := make(chan string, 4096)
	hear := func(c net.Conn) {
		heard <- c.LocalAddr().String()
	}
	for _, port := range []int{22, 80, 111, 443, 631, 1023, 5432, 8080} {
		listen(t, p.server, "tcp", fmt.Sprintf("127.0.0.1:%d", port), hear)
		listen(t, p.server, "tcp", fmt.Sprintf("[::1]:%d", port), hear)
	}
	for _, port := range []int{53, 123, 500} {
		listenUDP(t, p.server, fmt.Sprintf("127.0.0.1:%d", port), "heard ")
	}
	listen(t, p.server, "tcp", "127.0.0.1:9000", echoAs("app"))
	// In the middle of the range that is looked through.
	add(p.ingress, "ingress tcp:777:127.0.0.1:9000")
	m4, m6 := p.ingress.V4(), p.ingress.V6()
	add(p.egress, "egress tcp:20001-21024:"+m4+":1-1024", "egress tcp:22001-23024:["+m6+"]:1-1024",
		"egress udp:20001-21024:"+m4+":1-1024")
	untilSays(t, "the declared port", p.client, "tcp", "127.0.0.1:20777", "app hello")

	var open []string
	scan := func(network string, from, count int) {
		type found struct {
			port int
			err  error
		}
		results := make(chan found, count)
		limit := make(chan struct{}, map[string]int{"tcp": 64, "udp": 512}[network])
		for i := range count {
			limit <- struct{}{}
			go func() {
				defer func() { <-limit }()
				c, err := tryDial(p.client, network, fmt.Sprintf("127.0.0.1:%d", from+i))
				if err == nil {
					defer c.Close()
					c.SetDeadline(time.Now().Add(10 * time.Second))
					if network == "udp" {
						c.SetDeadline(time.Now().Add(500 * time.Millisecond))
					}
					_, err = say(c, "hello")
				}
				results <- found{from + i, err}
			}()
		}
		for range count {
			r := <-results
			if r.err == nil {
				open = append(open, fmt.Sprintf("%s %d", network, r.port))
			} else if network == "tcp" && !isReset(r.err) {
				t.Errorf("port %d: %v, want a reset", r.port, r.err)
			}
		}
	}
	scan("tcp", 20001, 1024)
	scan("tcp", 22001, 1024)
	scan("udp", 20001, 1024)
	if got, want := strings.Join(open, ", "), "tcp 20777, tcp 22777"; got != want {
		t.Errorf("open: %s; want %s", got, want)
	}
	select {
	case at := <-heard:
		t.Errorf("an undeclared service at %s was reached", at)
	default:
	}

	// Further ports, and addresses that are no mesh addresses.
	remove(p.egress, "egress tcp:20001-21024:"+m4+":1-1024", "egress tcp:22001-23024:["+m6+"]:1-1024", "egress udp:20001-21024:"+m4+":1-1024")
	st, err := p.ingress.Status()
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Rules) != 1 {
		t.Errorf("rules of the server: %+v", st.Rules)
	}
	targets := []string{
		m4 + ":5432", m4 + ":8080", m4 + ":9000", m4 + ":9500", "[" + m6 + "]:8080", "[" + m6 + "]:9500",
		p.server.V4.String() + ":8080", "127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080", "0.0.0.0:8080", "224.0.0.1:8080",
	}
	for i, target := range targets {
		rule := fmt.Sprintf("tcp:%d:%s,dial-timeout=1s", 24000+i, target)
		if _, err := p.egress.TryCtl("nexd", "proxy", "add", "--egress", rule); err != nil {
			continue // the rule itself is refused
		}
		if got, err := sayOnce(p.client, "tcp", fmt.Sprintf("127.0.0.1:%d", 24000+i), "hello"); err == nil {
			t.Errorf("%s is reached: %q", target, got)
		}
	}
	select {
	case at := <-heard:
		t.Errorf("an undeclared service at %s was reached", at)
	default:
	}
}
