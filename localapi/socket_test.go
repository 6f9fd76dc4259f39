package localapi_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nexd/localapi"
	"nexd/localapi/localapitest"
)

// listen opens a server's socket and closes it at the end of the test.
func listen(t *testing.T, path string) error {
	t.Helper()
	s, err := localapi.NewServer(localapi.ServerConfig{Path: path, Daemon: &localapitest.Daemon{}})
	if err != nil {
		return err
	}
	t.Cleanup(func() { s.Close() })
	return s.Listen(context.Background())
}

func TestSocketIsPrivateWhateverTheUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "made", "nexd.sock")
	if err := listen(t, path); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", p, got, want)
		}
	}
}

func TestSocketOfADeadDaemonIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexd.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if err := listen(t, path); err != nil {
		t.Error(err)
	}
}

func TestSocketOfALiveDaemonIsLeftAlone(t *testing.T) {
	client, path, _ := start(t, &localapitest.Daemon{})
	err := listen(t, path)
	var taken *localapi.SocketError
	if !errors.As(err, &taken) || !strings.Contains(err.Error(), path) || taken.Hint() == "" {
		t.Errorf("second daemon: %v, want one that names %s", err, path)
	}
	if _, err := client.Status(testContext(t)); err != nil {
		t.Errorf("the first daemon no longer answers: %v", err)
	}
}

func TestFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := listen(t, path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "keep me" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

func TestClosedSocketRemovesOnlyItsOwnFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexd.sock")
	s, err := localapi.NewServer(localapi.ServerConfig{Path: path, Daemon: &localapitest.Daemon{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := listen(t, path); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the second daemon's socket is gone: %v", err)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	path := "/" + strings.Repeat("x", localapi.MaxSocketPath)
	err := listen(t, path)
	var user *localapi.UserError
	if !errors.As(err, &user) || !strings.Contains(err.Error(), "107") || user.Hint == "" {
		t.Errorf("got %v", err)
	}
	if err := localapi.CheckSocketPath(path[:localapi.MaxSocketPath]); err != nil {
		t.Errorf("the longest path: %v", err)
	}
}

func TestNoDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexd.sock")
	_, err := localapi.NewClient(path).Status(testContext(t))
	var none *localapi.NoDaemonError
	if !errors.As(err, &none) || err.Error() != "no daemon at "+path || !strings.Contains(none.Hint(), "--unix-socket") {
		t.Errorf("got %v", err)
	}
}

func TestSomethingElseBehindTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			c.Write([]byte("220 mail\r\n"))
			c.Close()
		}
	}()
	if _, err = localapi.NewClient(path).Status(testContext(t)); err == nil {
		t.Error("a mail server was taken for nexd")
	}
	l.Close()
	<-done
}
