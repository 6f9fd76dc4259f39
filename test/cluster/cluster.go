package cluster

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Cluster is one set of namespaces on a common link.
type Cluster struct {
	t     testing.TB
	name  string // prefix of every namespace
	hub   string // namespace of the bridge
	bin   string // directory of nexd and nexctl
	dir   string
	nodes []*Node
}

var clusterCount atomic.Int32

// New builds an empty cluster; the test's end removes it. It skips or fails the
// test where the machine cannot run it (see the package comment).
func New(t testing.TB) *Cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root: network namespaces cannot be made without it")
	}
	Need(t, "ip", "chroot", "mount")
	c := &Cluster{
		t:    t,
		name: fmt.Sprintf("nexd%d-%d", os.Getpid(), clusterCount.Add(1)),
		bin:  Binaries(t),
		dir:  worldDir(t),
	}
	c.hub = c.name + "-hub"
	c.run("ip", "netns", "add", c.hub)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", c.hub).Run() })
	c.run("ip", "-n", c.hub, "link", "add", "br0", "type", "bridge")
	c.run("ip", "-n", c.hub, "link", "set", "br0", "up")
	return c
}

// worldDir makes a directory that any user may enter.
func worldDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "nexd-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Missing ends the test for lack of what: skipped on a user's machine, failed
// where NEXD_TEST_REQUIRE says that everything is to be there.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("NEXD_TEST_REQUIRE") != "" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s (test/setup.sh installs what tests need)", what)
}

// Need checks that programs are installed.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Missing(t, "program "+p)
		}
	}
}

// run runs a set-up command that must succeed.
func (c *Cluster) run(name string, args ...string) {
	c.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// Dir returns a fresh directory below the cluster's own, owned by uid and
// private to it.
func (c *Cluster) Dir(name string, uid int) string {
	c.t.Helper()
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

var (
	buildOnce sync.Once
	buildDir  string
	buildErr  error
)

// Binaries returns a directory with nexd and nexctl: NEXD_TEST_BIN, or built
// from this tree once per test run.
func Binaries(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("NEXD_TEST_BIN"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		return abs
	}
	buildOnce.Do(func() {
		if buildDir, buildErr = os.MkdirTemp("", "nexd-bin-"); buildErr != nil {
			return
		}
		if buildErr = os.Chmod(buildDir, 0o755); buildErr != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", buildDir, "nexd/cmd/nexd", "nexd/cmd/nexctl")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return buildDir
}

// RemoveBinaries deletes what [Binaries] built; call it at the end of TestMain.
func RemoveBinaries() {
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
}

// Node is one host: a namespace with an IPv4 and an IPv6 address on the link.
type Node struct {
	Name string
	NS   string
	V4   netip.Addr
	V6   netip.Addr
	// UID is the unprivileged user its programs run as.
	UID int

	c *Cluster
}

// Node adds a host to the link.
func (c *Cluster) Node(name string) *Node {
	c.t.Helper()
	i := len(c.nodes) + 1
	n := &Node{
		Name: name,
		NS:   c.name + "-" + name,
		V4:   netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}),
		V6:   netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)),
		UID:  40000 + i,
		c:    c,
	}
	c.nodes = append(c.nodes, n)
	port := fmt.Sprintf("p%d", i)
	c.run("ip", "netns", "add", n.NS)
	c.t.Cleanup(func() { exec.Command("ip", "netns", "del", n.NS).Run() })
	c.run("ip", "link", "add", port, "netns", c.hub, "type", "veth", "peer", "name", "eth0", "netns", n.NS)
	c.run("ip", "-n", c.hub, "link", "set", port, "master", "br0", "up")
	// No duplicate address detection: an address is usable at once.
	c.run("ip", "netns", "exec", n.NS, "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad; echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
	c.run("ip", "-n", n.NS, "link", "set", "lo", "up")
	c.run("ip", "-n", n.NS, "addr", "add", n.V4.String()+"/24", "dev", "eth0")
	c.run("ip", "-n", n.NS, "-6", "addr", "add", n.V6.String()+"/64", "dev", "eth0", "nodad")
	c.run("ip", "-n", n.NS, "link", "set", "eth0", "up")
	return n
}

// Link takes the node's cable out (up=false) or plugs it in again.
func (n *Node) Link(up bool) {
	n.c.t.Helper()
	state := "down"
	if up {
		state = "up"
	}
	n.c.run("ip", "-n", n.NS, "link", "set", "eth0", state)
	if up { // the kernel drops IPv6 addresses with the link
		exec.Command("ip", "-n", n.NS, "-6", "addr", "add", n.V6.String()+"/64", "dev", "eth0", "nodad").Run()
	}
}
