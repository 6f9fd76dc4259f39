package localapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSocketPath is the longest path of a unix socket in bytes: sun_path of
// Linux less its final zero.
const MaxSocketPath = 107

// CheckSocketPath reports why path cannot be a socket's path.
func CheckSocketPath(path string) error {
	switch {
	case path == "":
		return &UserError{Message: "the socket path is empty", Hint: "give one with --unix-socket"}
	case len(path) > MaxSocketPath:
		return &UserError{
			Message: fmt.Sprintf("socket path %s is too long: %d bytes, the system takes %d", path, len(path), MaxSocketPath),
			Hint:    "give a shorter one with --unix-socket, or start from a directory nearer to it and write a relative path",
		}
	}
	return nil
}

// SocketError is a path that is taken.
type SocketError struct{ Message, Advice string }

func (e *SocketError) Error() string { return e.Message }

// Hint says what to do.
func (e *SocketError) Hint() string { return e.Advice }

// socket is a claimed path: the listener, and the file it put there.
type socket struct {
	net.Listener
	path string
	file os.FileInfo
}

// claim listens on path with mode 0600. The socket of a daemon that died is
// replaced; a live one, or any other file, is left alone and reported. Claims
// of paths in one directory take turns, so that two daemons that start together
// cannot replace each other.
func claim(ctx context.Context, path string) (*socket, error) {
	if err := CheckSocketPath(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of socket %s: %w", path, err)
	}
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of socket %s: %w", path, err)
	}
	defer unlock()
	if err := clearPath(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: private}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, errors.Unwrap(err))
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &socket{Listener: l, path: path}
	// The mode again, for systems where bind does not take it from the socket.
	if err = os.Chmod(path, 0o600); err == nil {
		s.file, err = os.Lstat(path)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("make socket %s private: %w", path, err)
	}
	return s, nil
}

// Close stops listening and removes the file, unless it is another's by now.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path) // a leftover is replaced by the next daemon
	}
	return s.Listener.Close()
}

// private gives the socket its mode before bind makes the file: Linux creates
// the file with the socket's own mode, less the umask, so that it is never open
// to others, not even for a moment.
func private(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	if err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) }); err != nil {
		return err
	}
	return chmodErr
}

// clearPath removes the socket of a daemon that is gone.
func clearPath(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return &SocketError{
			Message: fmt.Sprintf("%s is there and not a socket: it is left as it is", path),
			Advice:  "give another path with --unix-socket",
		}
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return &SocketError{
			Message: fmt.Sprintf("another daemon answers on socket %s", path),
			Advice:  "stop it, or give this one its own --unix-socket and --state-dir",
		}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %s is there, and whether a daemon uses it cannot be said: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket %s of a daemon that is gone: %w", path, err)
	}
	return nil
}

// lockDir takes the advisory lock of a directory, for as long as a claim takes.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another process holds it: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
