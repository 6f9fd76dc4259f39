package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAFileIsReplacedAsAWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if b, err := ReadFile(path, 10); b != nil || err != nil {
		t.Errorf("a file that is not there: %q, %v", b, err)
	}
	for _, content := range []string{"one", "", "another"} {
		if err := WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		b, err := ReadFile(path, 10)
		if err != nil || b == nil || string(b) != content {
			t.Errorf("wrote %q, read %q, %v", content, b, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	if _, err := ReadFile(path, 3); err == nil {
		t.Error("a file over the limit was read")
	}
	if _, err := ReadFile(dir, 3); err == nil {
		t.Error("a directory was read")
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(pipe, 3); err == nil {
		t.Error("a pipe was read")
	}
}

// A write that does not come about leaves the old content and nothing beside it.
func TestAFailedWriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x")); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	if err := WriteFile(filepath.Join(dir, "no", "f"), nil); err == nil {
		t.Error("wrote into a directory that is not there")
	}
}

func TestOneDaemonHasTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	f, err := Lock(dir, "lock")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var locked *LockedError
	if _, err := Lock(dir, "lock"); !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Errorf("the second lock: %v", err)
	}
	other, err := Lock(dir, "other")
	if err != nil {
		t.Errorf("another name is another lock: %v", err)
	}
	other.Close()
	f.Close()
	if f, err = Lock(dir, "lock"); err != nil {
		t.Errorf("after the first: %v", err)
	}
	f.Close()
}
