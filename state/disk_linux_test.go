package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nexd/test/need"
)

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
