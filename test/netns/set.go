//go:build linux

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"nexd/test/need"
)

const (
	// Dir is where ip(8) keeps the names of namespaces.
	Dir = "/run/netns"
	// locksDir has one file per living set, named by its prefix and locked by
	// its owner. A file that can be locked is what a killed owner left.
	locksDir = "/run/nexd-netns"
)

// Set is the namespaces of one test, all named "PREFIX-host".
type Set struct {
	// Prefix is unique among the sets of this machine, as "nexd4711-1".
	Prefix string

	t    T
	lock *os.File

	mu    sync.Mutex
	hosts map[string]*Host // by name; mu guards it
}

var setCount atomic.Int32

// NewSet sweeps what killed runs left and claims a prefix that begins with
// word. The end of the test kills what still runs in the set and removes it.
func NewSet(t T, word string) *Set {
	t.Helper()
	if os.Geteuid() != 0 {
		need.Missing(t, "root: network namespaces cannot be made without it")
	}
	need.Programs(t, "ip", "chroot")
	if err := os.MkdirAll(locksDir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	sweep(t)
	s := &Set{
		Prefix: fmt.Sprintf("%s%d-%d", word, os.Getpid(), setCount.Add(1)),
		t:      t, hosts: map[string]*Host{},
	}
	var err error
	for s.lock == nil { // a sweeper may hold the file for a moment
		if s.lock, err = claim(filepath.Join(locksDir, s.Prefix), unix.LOCK_EX); err != nil {
			t.Fatalf("claim the prefix %s: %v", s.Prefix, err)
		}
	}
	t.Cleanup(s.remove)
	return s
}

// Host adds a namespace with its loopback up.
func (s *Set) Host(name string) *Host {
	s.t.Helper()
	return s.Hosts(name)[0]
}

// Hosts adds several namespaces at once, which is quicker than one by one.
func (s *Set) Hosts(names ...string) []*Host {
	s.t.Helper()
	var batch strings.Builder
	hosts := make([]*Host, len(names))
	for i, name := range names {
		hosts[i] = &Host{Name: name, NS: s.Prefix + "-" + name, t: s.t}
		fmt.Fprintf(&batch, "netns add %s\n", hosts[i].NS)
	}
	if out, err := ipBatch(batch.String()); err != nil {
		s.t.Fatalf("make namespaces %s: %v\n%s", strings.Join(names, " "), err, out)
	}
	s.mu.Lock()
	for _, h := range hosts {
		s.hosts[h.Name] = h
	}
	s.mu.Unlock()
	for _, h := range hosts {
		if err := h.prepare(); err != nil {
			s.t.Fatalf("%s: %v", h.Name, err)
		}
	}
	return hosts
}

// remove ends what runs in the set's namespaces and deletes them.
func (s *Set) remove() {
	if err := removeAll(s.Prefix); err != nil {
		s.t.Logf("remove namespaces %s: %v", s.Prefix, err)
	}
	os.Remove(s.lock.Name())
	s.lock.Close()
}

// claim opens and locks a file; nil without an error when another one has it
// (with LOCK_NB) or when it was deleted while we waited for it.
func claim(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			err = nil
		}
		return nil, err
	}
	mine, err := f.Stat()
	if err == nil {
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	f.Close()
	return nil, err
}

// sweep removes the sets whose owners are dead.
func sweep(t T) {
	files, err := os.ReadDir(locksDir)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, file := range files {
		path := filepath.Join(locksDir, file.Name())
		f, err := claim(path, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil || f == nil {
			continue // its owner lives, or another one sweeps
		}
		if err := removeAll(file.Name()); err != nil {
			t.Logf("sweep %s: %v", file.Name(), err)
		}
		os.Remove(path)
		f.Close()
	}
}

// removeAll deletes the namespaces of a prefix and kills what runs in them.
func removeAll(prefix string) error {
	paths, err := filepath.Glob(filepath.Join(Dir, prefix+"-*"))
	if err != nil || len(paths) == 0 {
		return err
	}
	killInside(paths)
	var batch strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&batch, "netns del %s\n", filepath.Base(p))
	}
	if out, err := ipBatch(batch.String(), "-force"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// killInside kills every process whose network namespace is one of paths.
func killInside(paths []string) {
	spaces := map[uint64]bool{}
	for _, p := range paths {
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil {
			spaces[st.Ino] = true
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		var st unix.Stat_t
		var pid int
		if unix.Stat(p+"/ns/net", &st) != nil || !spaces[st.Ino] {
			continue
		}
		if _, err := fmt.Sscanf(filepath.Base(p), "%d", &pid); err == nil && pid != os.Getpid() {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// ipBatch runs ip(8) once over several commands.
func ipBatch(commands string, flags ...string) ([]byte, error) {
	cmd := exec.Command("ip", append(flags, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(commands)
	return cmd.CombinedOutput()
}
