package state

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"nexd/test/need"
)

// childDir tells the test binary to play a daemon on this directory.
const childDir = "NEXD_STATE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Println(child(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child counts in the state for ever and prints each number once it is durable.
// The length changes, so that files of different sizes follow each other.
func child(dir string) error {
	s, err := Open(dir, nil)
	if err != nil {
		return err
	}
	for {
		var n uint64
		err := s.Update(func(d *Data) {
			n, _ = strconv.ParseUint(d.ServiceURL, 10, 64)
			n++
			d.ServiceURL = strconv.FormatUint(n, 10)
			d.Credential = strings.Repeat("x", int(n*7919%5000))
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// startChild returns the child and its lines.
func startChild(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// TestKillLosesNothingAcknowledged kills a daemon again and again while it writes.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged := uint64(0)
	for range 25 {
		cmd, lines := startChild(t, dir)
		for range 1 + rand.IntN(20) {
			if !lines.Scan() {
				t.Fatalf("the child ended: %v", lines.Err())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		last := lines.Text()
		for lines.Scan() { // what it wrote before it died
			last = lines.Text()
		}
		cmd.Wait()
		n, err := strconv.ParseUint(last, 10, 64)
		if err != nil || n <= acknowledged {
			t.Fatalf("the child said %q after %d", last, acknowledged)
		}

		s, err := Open(dir, nil)
		if err != nil {
			t.Fatalf("after the kill: %v", err)
		}
		d := s.Data()
		found, err := strconv.ParseUint(d.ServiceURL, 10, 64)
		if err != nil || found != n && found != n+1 {
			t.Fatalf("found %q, %d was acknowledged", d.ServiceURL, n)
		}
		if len(d.Credential) != int(found*7919%5000) {
			t.Fatalf("state %d has the content of another", found)
		}
		acknowledged = found
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestASecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	cmd, lines := startChild(t, dir)
	if !lines.Scan() {
		t.Fatal("the child ended")
	}
	_, err := Open(dir, nil)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != cmd.Process.Pid || locked.Dir != dir {
		t.Fatalf("got %#v", err)
	}
	want := fmt.Sprintf("state directory %s is in use by another nexd (process %d): stop it, or give this one its own --state-dir", dir, cmd.Process.Pid)
	if err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	cmd.Process.Kill()
	cmd.Wait()

	s := mustOpen(t, dir) // the kernel freed the lock
	_, err = Open(dir, nil)
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("in the same process: %v", err)
	}
	s.Close()
	mustOpen(t, dir)

	if got := (&LockedError{Dir: "/x"}).Error(); !strings.Contains(got, "in use by another nexd: stop it") {
		t.Errorf("without a process id: %s", got)
	}
}

// mountSmall mounts a file system of 64 KiB.
func mountSmall(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		need.Missing(t, "root: a full disk needs a small file system, and mounting one does")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		need.Missing(t, "a small file system: "+err.Error())
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := mountSmall(t)
	s := mustOpen(t, dir)
	old := sample()
	mustUpdate(t, s, func(d *Data) { *d = old })
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 128<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	want := old.Clone()
	want.ListenPort = 9
	err := s.Update(func(d *Data) { d.ListenPort = 9 })
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), filepath.Join(dir, FileName)) || !strings.Contains(err.Error(), "kept in memory") {
		t.Fatalf("got %v", err)
	}
	same(t, s.Data(), want)
	onDisk(t, dir, old)
	if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("closing with unwritten content: %v", err)
	}

	// A restart works, with the old state; the process id alone may be missing.
	s = mustOpen(t, dir)
	same(t, s.Data(), old)
	if err := s.Update(func(d *Data) { d.ListenPort = 9 }); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, s, func(*Data) {}) // brings no change of its own, but writes
	onDisk(t, dir, want)
}

func TestReadOnlyDisk(t *testing.T) {
	dir := mountSmall(t)
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	_, err := func() (*Store, error) {
		remount(syscall.MS_RDONLY)
		defer remount(0)
		return Open(dir, nil)
	}()
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "--ephemeral") {
		t.Errorf("first start on a read-only disk: %v", err)
	}

	s := mustOpen(t, dir)
	old := sample()
	mustUpdate(t, s, func(d *Data) { *d = old })
	s.Close()
	remount(syscall.MS_RDONLY)
	s = mustOpen(t, dir) // can be read and locked
	same(t, s.Data(), old)
	var locked *LockedError
	if _, err := Open(dir, nil); !errors.As(err, &locked) {
		t.Errorf("second daemon: %v", err)
	}
	if err := s.Update(func(d *Data) { d.ListenPort = 9 }); !errors.Is(err, syscall.EROFS) {
		t.Errorf("got %v", err)
	}
	remount(0)
	if err := s.Close(); err != nil { // writes what was held back
		t.Fatal(err)
	}
	old.ListenPort = 9
	onDisk(t, dir, old)
}

// onDisk checks what a start after a crash would find.
func onDisk(t *testing.T, dir string, want Data) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	d, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	same(t, d, want)
	if _, err := os.Stat(filepath.Join(dir, newName)); err == nil {
		t.Error("the unfinished file takes up room")
	}
}
