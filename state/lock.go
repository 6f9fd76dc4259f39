package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// takeLock locks the directory for as long as the file is open, also against
// other opens by this process. The kernel frees it when the process ends.
func takeLock(root *os.Root, dir string) (*os.File, error) {
	f, err := root.OpenFile(LockName, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		// A read-only directory can be locked too, if it ever was.
		if g, rerr := root.OpenFile(LockName, os.O_RDONLY|syscall.O_NONBLOCK, 0); rerr == nil {
			f, err = g, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock state directory %s: %w: %s", dir, err, dirHint(err))
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{Dir: dir, PID: readPID(f)}
		}
		return nil, fmt.Errorf("lock state directory %s: %w: %s", dir, err, dirHint(err))
	}
	// The number only makes the other daemon's message better: on a full or
	// read-only disk it stays out.
	if f.Truncate(0) == nil {
		f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	return f, nil
}

// flock takes the lock or returns EWOULDBLOCK at once.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// readPID reads the holder's process id; 0 when there is none.
func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// releaseLock frees the lock; the file stays, so that two daemons never lock
// two files of the same name.
func releaseLock(f *os.File) error {
	f.Truncate(0) // a stale process id would only mislead
	return f.Close()
}
