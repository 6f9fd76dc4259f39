//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"nexd/test/need"
	"nexd/test/nginx"
)

const proxyProtocolServer = `
  server {
    listen 127.0.0.1:8080 proxy_protocol;
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_server_addr $proxy_protocol_server_port\n"; }
  }
`

// TestProxyProtocol: nginx hears the mesh address of the client, by either
// version of the protocol and in either family.
func TestProxyProtocol(t *testing.T) {
	need.Programs(t, "nginx", "curl", "ss")
	p := newPair(t,
		[]string{"--ingress", "tcp:81:127.0.0.1:8080,proxy-protocol=v1", "--ingress", "tcp:82:127.0.0.1:8080,proxy-protocol=v2"}, nil)
	dir := p.Dir("nginx", p.server.UID)
	p.server.Start("nginx", p.server.CommandAs(p.server.UID, "nginx", nginx.Args(t, dir, proxyProtocolServer)...))
	awaitListener(t, p.server, 8080)
	c4, c6, s4, s6 := p.egress.V4(), p.egress.V6(), p.ingress.V4(), p.ingress.V6()
	add(p.egress, "egress tcp:7041:"+s4+":81", "egress tcp:7042:"+s4+":82", "egress tcp:7061:["+s6+"]:81", "egress tcp:7062:["+s6+"]:82")
	for port, want := range map[int]string{
		7041: c4 + " " + s4 + " 81", 7042: c4 + " " + s4 + " 82",
		7061: c6 + " " + s6 + " 81", 7062: c6 + " " + s6 + " 82",
	} {
		got := strings.TrimSpace(p.client.Run("curl", "-sSf", "--max-time", "10", fmt.Sprintf("http://127.0.0.1:%d/", port)))
		if got != want {
			t.Errorf("port %d: nginx heard %q, want %q", port, got, want)
		}
	}
}

// TestLimits: max-conns, idle-timeout and dial-timeout do what they say, and
// when.
func TestLimits(t *testing.T) {
	need.Programs(t, "nft")
	p := newPair(t, nil, nil)
	listen(t, p.server, "tcp", "127.0.0.1:9000", echoAs("app"))
	p.server.Run("nft", "add table inet hole; add chain inet hole in { type filter hook input priority 0 ; }; add rule inet hole in tcp dport 9999 drop")
	listen(t, p.server, "tcp", "127.0.0.1:9999", echoAs("behind the hole"))
	const hole = "tcp:8003:127.0.0.1:9999,dial-timeout=1s"
	add(p.ingress, "ingress tcp:8001:127.0.0.1:9000,max-conns=2", "ingress tcp:8002:127.0.0.1:9000,idle-timeout=4s", "ingress "+hole,
		"ingress tcp:8004:127.0.0.1:9000")
	add(p.egress, "egress tcp:7001:server:8001", "egress tcp:7002:server:8002", "egress tcp:7003:server:8003", "egress tcp:7004:server:8004,max-conns=1")

	// Two at a time on the ingress side, one on the egress side.
	for port, limit := range map[string]int{"7001": 2, "7004": 1} {
		var within []net.Conn
		for range limit {
			c := dial(t, p.client, "tcp", "127.0.0.1:"+port)
			if got, err := say(c, "hello"); err != nil || got != "app hello" {
				t.Fatalf("port %s within the limit: %q, %v", port, got, err)
			}
			within = append(within, c)
		}
		wantRefused(t, "port "+port+": one connection too many", p.client, "127.0.0.1:"+port)
		for _, c := range within {
			if got, err := say(c, "again"); err != nil || got != "app again" {
				t.Errorf("port %s within the limit, after the refusal: %q, %v", port, got, err)
			}
		}
		within[0].Close()
		untilSays(t, "a place that became free", p.client, "tcp", "127.0.0.1:"+port, "app hello")
	}

	// A connection that speaks stays longer than idle-timeout; a silent one ends.
	c := dial(t, p.client, "tcp", "127.0.0.1:7002")
	var spoke time.Time
	for busy := time.Now(); time.Since(busy) < 6*time.Second; {
		spoke = time.Now()
		if got, err := say(c, "hello"); err != nil || got != "app hello" {
			t.Fatalf("a busy connection after %s: %q, %v", time.Since(busy), got, err)
		}
		time.Sleep(300 * time.Millisecond) // the pace of the speaker
	}
	_, err := readLine(c)
	if took := time.Since(spoke); err == nil || took < 3500*time.Millisecond || took > 7*time.Second {
		t.Errorf("a silent connection ended after %s with %v, want about 4 s", took, err)
	} else if !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("a silent connection: %v", err)
	}

	// A destination that swallows everything.
	begun := time.Now()
	wantRefused(t, "destination without an answer", p.client, "127.0.0.1:7003")
	if took := time.Since(begun); took < 500*time.Millisecond || took > 4*time.Second {
		t.Errorf("dial-timeout=1s took %s", took)
	}
	untilRule(t, p.ingress, hole, "degraded", "no answer within 1s")
	p.server.Run("nft", "delete table inet hole")
	untilSays(t, "the hole is closed", p.client, "tcp", "127.0.0.1:7003", "behind the hole hello")
	untilRule(t, p.ingress, hole, "listening", "")
}
