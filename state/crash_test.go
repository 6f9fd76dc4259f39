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
	"testing"
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
