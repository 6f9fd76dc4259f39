//go:build linux

package netns

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asOwner makes the test binary an owner of namespaces that waits to be killed.
const asOwner = "NEXD_TEST_NETNS_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(asOwner) != "" {
		own()
	}
	os.Exit(m.Run())
}

// program is a T outside of a test.
type program struct{ testing.TB }

func (program) Helper()                          {}
func (program) Cleanup(func())                   {} // it is killed before
func (program) Logf(format string, args ...any)  { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (program) Skipf(format string, args ...any) { program{}.Fatalf(format, args...) }
func (program) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func own() {
	set := NewSet(program{}, "nexdown")
	h := set.Host("a")
	sleeper := h.Start("sleep", h.Command("sleep", "600"))
	Until(program{}, 10*time.Second, "sleep runs", func() error {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", sleeper.PID()))
		if err == nil && strings.TrimSpace(string(comm)) != "sleep" {
			err = errors.New("not yet")
		}
		return err
	})
	fmt.Println(set.Prefix, sleeper.PID())
	select {}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// alive reports whether a process runs; one that ended and was not waited for
// does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(after, "Z")
}

// What a killed run left is gone after the next one's start; what lives stays.
func TestSweep(t *testing.T) {
	mine := NewSet(t, "nexdmine")
	mine.Host("a")

	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), asOwner+"=1")
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	prefix, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	pid, err := strconv.Atoi(rest)
	if err != nil {
		owner.Process.Kill()
		owner.Wait()
		t.Fatalf("the owner said %q", line)
	}

	NewSet(t, "nexdother") // sweeps, but not the living
	if !exists(Dir+"/"+prefix+"-a") || !alive(pid) {
		t.Error("the namespaces of a living owner were swept")
	}

	owner.Process.Signal(syscall.SIGKILL)
	owner.Wait()
	NewSet(t, "nexdnext")
	if exists(Dir + "/" + prefix + "-a") {
		t.Error("the namespace of a dead owner is still there")
	}
	if exists(filepath.Join(locksDir, prefix)) {
		t.Error("the lock of a dead owner is still there")
	}
	Until(t, 5*time.Second, "its program is gone", func() error {
		if alive(pid) {
			return errors.New("it runs")
		}
		return nil
	})
	if !exists(Dir + "/" + mine.Prefix + "-a") {
		t.Error("our own namespace was swept")
	}
}

// A set goes with its test, also when that fails.
func TestRemoved(t *testing.T) {
	var prefix string
	var p *Proc
	t.Run("inner", func(t *testing.T) {
		s := NewSet(t, "nexdin")
		prefix = s.Prefix
		h := s.Host("a")
		// setsid: no kill of a group reaches it.
		p = h.Start("sleep", h.Command("setsid", "-f", "sleep", "600"))
	})
	if left, _ := filepath.Glob(Dir + "/" + prefix + "-*"); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
	if exists(filepath.Join(locksDir, prefix)) {
		t.Error("its lock is still there")
	}
	if p.Running() {
		t.Error("its program still runs")
	}
}

func TestInside(t *testing.T) {
	s := NewSet(t, "nexdin")
	hosts := s.Hosts("a", "b")
	a, b := hosts[0], hosts[1]
	a.IP("link add eth0 type veth peer name eth0 netns "+b.NS, "addr add 192.0.2.1/24 dev eth0", "link set eth0 up")
	b.IP("addr add 192.0.2.2/24 dev eth0", "link set eth0 up")
	a.Carrier("eth0")
	b.Carrier("eth0")
	ln, err := Inside(b, func() (net.Listener, error) { return net.Listen("tcp", "192.0.2.2:7000") })
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := Inside(a, func() (net.Conn, error) { return net.DialTimeout("tcp", "192.0.2.2:7000", 5*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != "192.0.2.1" {
		t.Errorf("dialled from %s", got)
	}
	if _, err := Inside(&Host{NS: "nexd-there-is-none"}, func() (int, error) { return 0, nil }); err == nil {
		t.Error("entered a namespace that is not there")
	}
}
