//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/test/cluster"
	"nexd/test/need"
)

// outcome is what a command that must end by itself did.
type outcome struct {
	code int
	text string
}

// tryNexd runs nexd as the node's user until it ends, for at most 20 s.
func tryNexd(t *testing.T, n *cluster.Node, args ...string) outcome {
	t.Helper()
	p := n.Start("nexd "+strings.Join(args, " "), n.CommandAs(n.UID, filepath.Join(cluster.Binaries(t), "nexd"), args...))
	code := p.Wait(20 * time.Second)
	return outcome{code, p.Log()}
}

func (o outcome) want(t *testing.T, what string, code int, parts ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("%s: exit code %d, want %d\n%s", what, o.code, code, o.text)
	}
	for _, p := range parts {
		if !strings.Contains(o.text, p) {
			t.Errorf("%s: nothing of %q in:\n%s", what, p, o.text)
		}
	}
	if strings.Contains(o.text, "goroutine ") || strings.Contains(o.text, "panic:") {
		t.Errorf("%s: it panicked:\n%s", what, o.text)
	}
}

// TestRefusals: keys, addresses and names the service refuses end a first start
// with a clear error, and change nothing.
func TestRefusals(t *testing.T) {
	c := cluster.New(t)
	svc := c.Serve()
	n := c.Node("node")
	key := svc.RegKey()
	first := c.ProxyIn(n, "first", "--reg-key", key).Ready()

	join := func(key, device string, more ...string) outcome {
		dir := c.Dir("try-"+device, n.UID)
		return tryNexd(t, n, append([]string{"proxy", "--state-dir", dir, "--reg-key", key, "--hostname", device}, more...)...)
	}
	url, rest, _ := strings.Cut(key, "#")
	secret, pin, _ := strings.Cut(rest, ".")

	join(url+"#"+strings.Repeat("x", len(secret))+"."+pin, "a").want(t, "wrong key", 2, "error:", "key", "hint:")
	join(url+"#"+secret+"."+strings.Repeat("A", len(pin)), "b").want(t, "wrong pin", 2, "error:", "hint:")
	join(url+"#"+secret+"."+pin[:20], "c").want(t, "cut pin", 2, "pin")
	join(strings.Replace(key, "https://", "http://", 1), "d").want(t, "http URL", 2, "not encrypted")
	join(key, "first").want(t, "taken name", 2, "first", "hint:")
	join(key, "e", "--request-ip", "203.0.113.9").want(t, "request-ip outside the range", 2, "203.0.113.9")
	join(key, "f", "--request-ip", first.V4()).want(t, "request-ip taken", 2, first.V4())
	join(key, "Bad_Name").want(t, "bad name", 2, "--hostname")

	once := svc.RegKey("--single-use")
	c.ProxyIn(n, "second", "--reg-key", once).Ready()
	join(once, "g").want(t, "used single-use key", 2, "used")

	short := svc.RegKey("--expires", "1s")
	time.Sleep(1100 * time.Millisecond) // the key's own second
	join(short, "h").want(t, "expired key", 2, "expired")

	doomed := svc.RegKey("--description", "doomed")
	ids := strings.Fields(svc.Ctl("reg-key", "list", "--output", "no-header"))
	for _, line := range strings.Split(svc.Ctl("reg-key", "list", "--output", "no-header"), "\n") {
		if strings.Contains(line, "doomed") {
			ids = strings.Fields(line)
		}
	}
	svc.Ctl("reg-key", "delete", ids[0])
	join(doomed, "i").want(t, "revoked key", 2, "error:")

	tryNexd(t, n, "proxy", "--state-dir", c.Dir("none", n.UID)).want(t, "no key at all", 2, "--reg-key")

	// Nothing of all this made a device.
	list := strings.TrimSpace(svc.Ctl("device", "list", "--output", "no-header"))
	if got := len(strings.Split(list, "\n")); got != 2 {
		t.Errorf("%d devices, want 2:\n%s", got, list)
	}
	// An address asked for and free is given.
	c.ProxyIn(n, "third", "--reg-key", key, "--request-ip", "100.64.7.7").Ready()
	if out := svc.Ctl("device", "list"); !strings.Contains(out, "100.64.7.7") {
		t.Errorf("the requested address was not given:\n%s", out)
	}
}

// TestTwoDaemons: a second daemon on one state directory ends with a clear
// message, and the first goes on.
func TestTwoDaemons(t *testing.T) {
	c := cluster.New(t)
	svc := c.Serve()
	n := c.Node("node")
	key := svc.RegKey()
	first := c.Proxy(n, "--reg-key", key).Ready()
	tryNexd(t, n, "proxy", "--state-dir", first.Dir, "--reg-key", key).want(t, "second daemon", 1, "error:", fmt.Sprint(first.PID()))
	if st, err := first.Status(); err != nil || !st.Ready {
		t.Errorf("the first daemon: ready %v, %v", st.Ready, err)
	}
	tryNexd(t, svc.Node, "serve", "--state-dir", svc.Dir, "--listen", ":9443", "--stun-listen", ":9478").want(t, "second service", 1, "error:")
}

// TestBadState: a corrupt, truncated or foreign state file is reported and kept.
func TestBadState(t *testing.T) {
	c := cluster.New(t)
	svc := c.Serve()
	n := c.Node("node")
	key := svc.RegKey()
	p := c.Proxy(n, "--reg-key", key).Ready()
	p.Stop()
	file := filepath.Join(p.Dir, "state.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"truncated": string(good[:len(good)/2]),
		"foreign":   `{"name":"somebody else's file"}`,
		"empty":     "",
		"garbage":   "\x00\xff\x00garbage",
		"newer":     `{"version":9999}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tryNexd(t, n, "proxy", "--state-dir", p.Dir, "--reg-key", key).want(t, what+" state", 1, "error:", file)
		if now, err := os.ReadFile(file); err != nil || string(now) != text {
			t.Errorf("%s state file was changed (%v)", what, err)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	p.Ready()
}

// TestServiceUnreachable: a daemon that cannot reach the service says so, keeps
// trying, and joins when the service is there.
func TestServiceUnreachable(t *testing.T) {
	c := cluster.New(t)
	svc := c.Serve()
	key := svc.RegKey()
	svc.Kill()
	n := c.Node("node")
	p := c.Proxy(n, "--reg-key", key, "--egress", "tcp:7000:node:7")
	cluster.Until(t, 20*time.Second, "a status that says why", func() error {
		st, err := p.Status()
		if err != nil {
			return err
		}
		if st.State != "joining" || st.Ready || !strings.Contains(strings.Join(st.Reasons, "\n"), "refuses connections") {
			return fmt.Errorf("state %s, ready %v, reasons %q", st.State, st.Ready, st.Reasons)
		}
		return nil
	})
	svc.Start()
	p.Ready()
}

// TestFailedRules: a rule that cannot listen is failed with its reason, kills
// nothing, and listens once it can.
func TestFailedRules(t *testing.T) {
	need.Programs(t, "socat", "ss")
	c := cluster.New(t)
	svc := c.Serve()
	n := c.Node("node")
	blocker := n.Start("blocker", n.CommandAs(n.UID, "socat", "TCP-LISTEN:7000,bind=127.0.0.1,reuseaddr", "EXEC:cat"))
	awaitListener(t, n, 7000)
	n.Run("sh", "-c", "echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
	p := c.Proxy(n, "--reg-key", svc.RegKey(), "--egress", "tcp:7000:node:7", "--egress", "tcp:80:node:7", "--egress", "tcp:7001:node:7")
	rule := func(text, state, part string) error {
		st, err := p.Status()
		if err != nil {
			return err
		}
		for _, r := range st.Rules {
			if r.Rule == text && r.State == state && strings.Contains(r.Error, part) && (state == "failed") != st.Ready {
				return nil
			}
		}
		return fmt.Errorf("ready %v, rules %+v", st.Ready, st.Rules)
	}
	cluster.Until(t, 20*time.Second, "port in use", func() error { return rule("tcp:7000:node:7", "failed", "in use") })
	cluster.Until(t, 5*time.Second, "privileged port", func() error { return rule("tcp:80:node:7", "failed", "privilege") })
	awaitListener(t, n, 7001) // the good rule beside them; who connects is reset, as nothing is at its destination
	blocker.Kill()
	p.Ctl("nexd", "proxy", "remove", "--egress", "tcp:80:node:7")
	cluster.Until(t, 60*time.Second, "the port that became free", func() error {
		st, err := p.Status()
		if err == nil && !st.Ready {
			err = fmt.Errorf("%v", st.Reasons)
		}
		return err
	})
}

// TestLongSocketPath: a socket path the kernel cannot hold is refused with its reason.
func TestLongSocketPath(t *testing.T) {
	c := cluster.New(t)
	svc := c.Serve()
	n := c.Node("node")
	long := filepath.Join(c.Dir("sock", n.UID), strings.Repeat("x", 120)+".sock")
	tryNexd(t, n, "proxy", "--state-dir", c.Dir("long", n.UID), "--reg-key", svc.RegKey(), "--unix-socket", long).
		want(t, "long socket path", 2, "error:", "hint:")
}

// TestFullDisk: with no room for the state the daemon says so; once it runs, it goes on.
func TestFullDisk(t *testing.T) {
	need.Programs(t, "ss", "mount")
	c := cluster.New(t)
	svc := c.Serve()
	n := c.Node("node")
	dir := c.Dir("node-small", n.UID)
	mount(t, dir, fmt.Sprintf("size=64k,mode=700,uid=%d,gid=%d", n.UID, n.UID))
	p := c.ProxyIn(n, "small", "--reg-key", svc.RegKey()).Ready()
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	if out, err := p.TryCtl("nexd", "proxy", "add", "--egress", "tcp:7001:small:7"); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("a rule that cannot be kept: %v %s", err, out)
	}
	if st, err := p.Status(); err != nil || !st.Ready || len(st.Rules) != 0 {
		t.Errorf("after the full disk: ready %v, rules %v, %v", st.Ready, st.Rules, err)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	p.Ctl("nexd", "proxy", "add", "--egress", "tcp:7001:small:7")
	awaitListener(t, n, 7001)
}
