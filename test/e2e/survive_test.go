//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/test/cluster"
	"nexd/test/need"
)

// echo starts a server on the node that answers each connection with its input.
func echo(t *testing.T, n *cluster.Node, port int) {
	t.Helper()
	need.Programs(t, "socat")
	n.Start("echo", n.CommandAs(n.UID, "socat", fmt.Sprintf("TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork", port), "EXEC:cat"))
	awaitListener(t, n, port)
}

// ask sends a word through a local port and wants it back.
func ask(n *cluster.Node, port int, word string) error {
	out, err := n.Try(10*time.Second, "sh", "-c", fmt.Sprintf("echo %s | nc -N -w 5 127.0.0.1 %d", word, port))
	if err == nil && strings.TrimSpace(out) != word {
		err = fmt.Errorf("got %q, want %q", out, word)
	}
	return err
}

// TestUnprivileged: the proxies hold no capability, run under an unknown uid,
// and one of them in a read-only root that holds nothing but the binary.
func TestUnprivileged(t *testing.T) {
	need.Programs(t, "nc", "ss", "socat")
	c := cluster.New(t)
	svc := c.Serve()
	key := svc.RegKey()
	server, client := c.Node("server"), c.Node("client")
	echo(t, server, 7000)
	ingress := c.Proxy(server, "--reg-key", key, "--ingress", "tcp:7:127.0.0.1:7000").Ready()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", ingress.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", fmt.Sprintf("Uid:\t%d", server.UID)} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the proxy's process has no %q:\n%s", want, status)
		}
	}

	// A root as in a container FROM scratch: the binary, /dev/null, a read-only mount.
	root := c.Dir("root", 0)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := os.ReadFile(filepath.Join(cluster.Binaries(t), "nexd"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "nexd"), bin, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := client.Command("unshare", "-m", "--propagation", "private", "sh", "-c", fmt.Sprintf(
		`mount --bind %[1]s %[1]s && mount -o remount,bind,ro %[1]s && exec env -i PATH="$PATH" NEXD_REG_KEY="$KEY" NEXD_EGRESS="tcp:7007:server:7" chroot --userspec=123456:123456 --groups= %[1]s /nexd proxy --ephemeral --hostname client`, root))
	cmd.Env = append(os.Environ(), "KEY="+key)
	scratch := client.Start("nexd proxy in a read-only root", cmd)
	cluster.Until(t, 20*time.Second, "traffic from the read-only root", func() error { return ask(client, 7007, "hello") })
	scratch.Stop()
	cluster.Until(t, 5*time.Second, "the ephemeral device left", func() error {
		if out := svc.Ctl("device", "list", "--output", "no-header"); strings.Contains(out, "client") {
			return fmt.Errorf("still there:\n%s", out)
		}
		return nil
	})
}

// TestProxyKilled: kill -9 and restart: same address, run-time rules still there.
func TestProxyKilled(t *testing.T) {
	need.Programs(t, "nc", "ss", "socat")
	p := newPair(t, []string{"--ingress", "tcp:7:127.0.0.1:7000"}, []string{"--egress", "tcp:7000:server:7"})
	echo(t, p.server, 7000)
	p.egress.Ctl("nexd", "proxy", "add", "--egress", "tcp:7001:server:7")
	p.egress.Ctl("nexd", "proxy", "remove", "--egress", "tcp:7000:server:7")
	cluster.Until(t, 10*time.Second, "the rule added at run time", func() error { return ask(p.client, 7001, "one") })
	v4, v6 := p.egress.V4(), p.egress.V6()
	serverV4 := p.ingress.V4()

	p.egress.Kill()
	p.egress.Start()
	p.egress.Ready()
	if p.egress.V4() != v4 || p.egress.V6() != v6 {
		t.Errorf("addresses %s %s became %s %s", v4, v6, p.egress.V4(), p.egress.V6())
	}
	cluster.Until(t, 10*time.Second, "the rule after kill -9", func() error { return ask(p.client, 7001, "two") })
	if err := ask(p.client, 7000, "gone"); err == nil {
		t.Error("the rule that was removed at run time is back")
	}

	p.ingress.Kill()
	p.ingress.Start()
	p.ingress.Ready()
	if got := p.ingress.V4(); got != serverV4 {
		t.Errorf("server's address %s became %s", serverV4, got)
	}
	cluster.Until(t, 20*time.Second, "traffic after the server's kill -9", func() error { return ask(p.client, 7001, "three") })
}

// TestServiceDown: with the service gone both proxies restart from the cached
// map and traffic flows; the service comes back and they go on with it.
func TestServiceDown(t *testing.T) {
	need.Programs(t, "nc", "ss", "socat")
	p := newPair(t, []string{"--ingress", "tcp:7:127.0.0.1:7000"}, []string{"--egress", "tcp:7000:server:7"})
	echo(t, p.server, 7000)
	cluster.Until(t, 10*time.Second, "traffic", func() error { return ask(p.client, 7000, "one") })
	p.egress.Direct("server")

	p.svc.Kill()
	if err := ask(p.client, 7000, "service-gone"); err != nil {
		t.Errorf("traffic stopped with the service: %v", err)
	}
	for _, proxy := range []*cluster.Proxy{p.ingress, p.egress} {
		proxy.Stop()
		proxy.Start()
	}
	for _, proxy := range []*cluster.Proxy{p.ingress, p.egress} {
		cluster.Until(t, 20*time.Second, proxy.Name+" ready and offline", func() error {
			st, err := proxy.Status()
			if err == nil && (!st.Ready || st.State != "offline" || st.Service.Connected) {
				err = fmt.Errorf("ready %v %v, state %q, connected %v", st.Ready, st.Reasons, st.State, st.Service.Connected)
			}
			return err
		})
	}
	cluster.Until(t, 20*time.Second, "traffic from the cached map", func() error { return ask(p.client, 7000, "two") })

	p.svc.Start()
	for _, proxy := range []*cluster.Proxy{p.ingress, p.egress} {
		cluster.Until(t, 60*time.Second, proxy.Name+" connected again", func() error {
			st, err := proxy.Status()
			if err == nil && st.State != "running" {
				err = fmt.Errorf("state %s", st.State)
			}
			return err
		})
	}
	if err := ask(p.client, 7000, "three"); err != nil {
		t.Error(err)
	}
}

// TestServiceKilledWhileJoining: kill -9 in the middle of joins and restart: no
// device is lost or doubled, and no address is given twice.
func TestServiceKilledWhileJoining(t *testing.T) {
	need.Programs(t, "curl")
	c := cluster.New(t)
	svc := c.Serve()
	key := svc.RegKey()
	n := c.Node("many")
	const devices = 12
	proxies := make([]*cluster.Proxy, devices)
	for i := range proxies {
		proxies[i] = c.ProxyIn(n, fmt.Sprintf("dev%d", i), "--reg-key", key)
		if i%4 == 3 {
			svc.Kill()
			svc.Start()
		}
	}
	var wg sync.WaitGroup
	for _, p := range proxies {
		wg.Go(func() {
			cluster.Until(t, 60*time.Second, p.Name+" joined", func() error {
				st, err := p.Status()
				if err == nil && st.State != "running" {
					err = fmt.Errorf("state %s %v", st.State, st.Reasons)
				}
				return err
			})
		})
	}
	wg.Wait()
	var list []controlapi.DeviceInfo
	if err := json.Unmarshal([]byte(svc.Ctl("device", "list", "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range list {
		for _, a := range d.Addresses {
			if seen[a.String()] {
				t.Errorf("address %s is given twice", a)
			}
			seen[a.String()] = true
		}
		if seen[d.Name] {
			t.Errorf("device %s is doubled", d.Name)
		}
		seen[d.Name] = true
	}
	if len(list) != devices {
		t.Errorf("%d devices, want %d", len(list), devices)
	}
}

// TestDeviceDeleted: a deletion reaches everyone within a second or so, and the
// deleted device gets nothing through any more.
func TestDeviceDeleted(t *testing.T) {
	need.Programs(t, "nc", "ss", "socat")
	p := newPair(t, []string{"--ingress", "tcp:7:127.0.0.1:7000"}, []string{"--egress", "tcp:7000:server:7"})
	echo(t, p.server, 7000)
	cluster.Until(t, 10*time.Second, "traffic", func() error { return ask(p.client, 7000, "one") })
	p.svc.Ctl("device", "delete", "client")
	cluster.Until(t, 5*time.Second, "the server forgot the client", func() error {
		st, err := p.ingress.Status()
		if err == nil && len(st.Peers) != 0 {
			err = fmt.Errorf("peers %v", st.Peers)
		}
		return err
	})
	if err := ask(p.client, 7000, "two"); err == nil {
		t.Error("the deleted device still gets through")
	}
	if !p.egress.Running() {
		t.Error("the deleted device's daemon ended")
	}
}
