//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"nexd/test/cluster"
	"nexd/test/need"
)

// resolver makes the node's programs ask 127.0.0.1 for names: ip(8) mounts the
// files below /etc/netns over those of /etc for what it starts in a namespace.
func resolver(t *testing.T, n *cluster.Node) {
	t.Helper()
	dir := filepath.Join("/etc/netns", n.NS)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove(filepath.Dir(dir)) // if it is empty
	})
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNames: destinations by DNS name follow the name when its TTL is over: of
// an egress rule to another device, of an ingress rule to another host. Names
// of devices need no DNS.
func TestNames(t *testing.T) {
	need.Programs(t, "dnsmasq", "ss")
	c := cluster.New(t)
	svc := c.Serve()
	key := svc.RegKey()
	one, two, client := c.Node("one"), c.Node("two"), c.Node("client")
	resolver(t, client)
	listen(t, one, "tcp", "127.0.0.1:9000", echoAs("one"))
	listen(t, two, "tcp", "127.0.0.1:9000", echoAs("two"))
	first := c.Proxy(one, "--reg-key", key, "--ingress", "tcp:8000:127.0.0.1:9000").Ready()
	second := c.Proxy(two, "--reg-key", key, "--ingress", "tcp:8000:127.0.0.1:9000").Ready()
	// The client's own hosts behind an ingress rule: two loopback addresses.
	listen(t, client, "tcp", "127.0.0.11:9000", echoAs("here"))
	listen(t, client, "tcp", "127.0.0.12:9000", echoAs("there"))

	dir := c.Dir("dns", 0)
	hosts := filepath.Join(dir, "hosts")
	point := func(db, app string) {
		t.Helper()
		if err := os.WriteFile(hosts, fmt.Appendf(nil, "%s db.example.test\n%s app.example.test\n", db, app), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	point(first.V4(), "127.0.0.11")
	dnsmasq := client.Start("dnsmasq", client.Command("dnsmasq", "--keep-in-foreground", "--no-daemon", "--conf-file=/dev/null",
		"--no-resolv", "--no-hosts", "--addn-hosts="+hosts, "--local-ttl=1", "--listen-address=127.0.0.1", "--bind-interfaces",
		"--user=", "--group=", "--pid-file=", "--cname=alias.example.test,db.example.test", "--log-queries"))
	awaitListener(t, client, 53)
	p := c.Proxy(client, "--reg-key", key,
		"--egress", "tcp:7000:db.example.test:8000", "--egress", "tcp:7001:alias.example.test:8000",
		"--egress", "tcp:7002:two:8000", "--egress", "tcp:7003:two.nexd.internal:8000",
		"--egress", "tcp:7004:missing.example.test:8000",
		"--ingress", "tcp:8001:app.example.test:9000")
	add(first, "egress tcp:7100:client:8001")
	untilSays(t, "by DNS name", client, "tcp", "127.0.0.1:7000", "one hello")
	untilSays(t, "by an alias", client, "tcp", "127.0.0.1:7001", "one hello")
	untilSays(t, "by device name", client, "tcp", "127.0.0.1:7002", "two hello")
	untilSays(t, "by full device name", client, "tcp", "127.0.0.1:7003", "two hello")
	untilSays(t, "ingress by DNS name", one, "tcp", "127.0.0.1:7100", "here hello")
	untilRule(t, p, "tcp:7004:missing.example.test:8000", "failed", "missing.example.test")

	kept := dial(t, client, "tcp", "127.0.0.1:7000")
	if got, err := say(kept, "hello"); err != nil || got != "one hello" {
		t.Fatalf("%q, %v", got, err)
	}
	point(second.V6(), "127.0.0.12")
	dnsmasq.Signal(syscall.SIGHUP)
	untilSays(t, "the name's new address, of the other family", client, "tcp", "127.0.0.1:7000", "two hello")
	untilSays(t, "the alias's new address", client, "tcp", "127.0.0.1:7001", "two hello")
	untilSays(t, "the new address of the ingress rule's name", one, "tcp", "127.0.0.1:7100", "there hello")
	if got, err := say(kept, "still"); err != nil || got != "one still" {
		t.Errorf("the connection made before: %q, %v", got, err)
	}

	// With the name server gone the last answer stands.
	dnsmasq.Kill()
	wantSay(t, "the name server is gone", client, "tcp", "127.0.0.1:7000", "two hello")
}
