//go:build linux

package cluster

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"nexd/test/need"
	"nexd/test/netns"
)

// Cluster is one set of namespaces on a common link.
type Cluster struct {
	t     netns.T
	set   *netns.Set
	hub   *netns.Host // holds the bridge
	bin   string      // directory of nexd and nexctl
	dir   string
	nodes []*Node
}

// New builds an empty cluster; the test's end removes it. It skips or fails the
// test where the machine cannot run it (see the package comment).
func New(t netns.T) *Cluster {
	t.Helper()
	need.Programs(t, "mount")
	set := netns.NewSet(t, "nexd")
	c := &Cluster{t: t, set: set, bin: Binaries(t), dir: worldDir(t)}
	c.hub = set.Host("hub")
	c.hub.IP("link add br0 type bridge", "link set br0 up")
	return c
}

// Over returns a cluster without a network of its own: the programs run on
// hosts that somebody else built, see [Cluster.Adopt].
func Over(t netns.T) *Cluster {
	t.Helper()
	return &Cluster{t: t, bin: Binaries(t), dir: worldDir(t)}
}

// worldDir makes a directory that any user may enter.
func worldDir(t netns.T) string {
	dir, err := os.MkdirTemp("", "nexd-cluster-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Until calls ok until it returns nil; the test fails with its last error after limit.
func Until(t netns.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	netns.Until(t, limit, what, ok)
}

// Dir returns a fresh directory below the cluster's own, owned by uid and
// private to it.
func (c *Cluster) Dir(name string, uid int) string {
	c.t.Helper()
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatalf("%v", err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		c.t.Fatalf("%v", err)
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
func Binaries(t netns.T) string {
	t.Helper()
	if dir := os.Getenv("NEXD_TEST_BIN"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			t.Fatalf("%v", err)
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
		t.Fatalf("%v", buildErr)
	}
	return buildDir
}

// RemoveBinaries deletes what [Binaries] built; call it at the end of TestMain.
func RemoveBinaries() {
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
}

// Proc is a running program.
type Proc = netns.Proc

// Node is one host: a namespace with an IPv4 and an IPv6 address on the link.
type Node struct {
	*netns.Host
	V4 netip.Addr
	V6 netip.Addr
	// UID is the unprivileged user its programs run as.
	UID int

	c *Cluster
}

// Node adds a host to the link.
func (c *Cluster) Node(name string) *Node {
	c.t.Helper()
	i := len(c.nodes) + 1
	n := c.Adopt(c.set.Host(name), netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}),
		netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)))
	port := fmt.Sprintf("p%d", i)
	c.hub.IP(
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, n.NS),
		fmt.Sprintf("link set %s master br0 up", port),
	)
	n.IP(
		fmt.Sprintf("addr add %s/24 dev eth0", n.V4),
		fmt.Sprintf("addr add %s/64 dev eth0 nodad", n.V6),
		"link set eth0 up",
	)
	c.hub.Carrier(port)
	n.Carrier("eth0")
	return n
}

// Adopt makes a node of a host built elsewhere, with the addresses it has
// there; v6 may be invalid.
func (c *Cluster) Adopt(host *netns.Host, v4, v6 netip.Addr) *Node {
	n := &Node{Host: host, V4: v4, V6: v6, UID: 40001 + len(c.nodes), c: c}
	c.nodes = append(c.nodes, n)
	return n
}

// Link takes the node's cable out (up=false) or plugs it in again.
func (n *Node) Link(up bool) {
	n.c.t.Helper()
	if !up {
		n.IP("link set eth0 down")
		return
	}
	n.IP("link set eth0 up")
	n.TryIP(fmt.Sprintf("addr add %s/64 dev eth0 nodad", n.V6)) // the kernel drops IPv6 addresses with the link
}
