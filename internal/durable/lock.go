package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockedError is the error of a directory that another daemon has.
type LockedError struct {
	Dir string
	PID int // of that daemon; 0 when it could not be read
}

// Error says who has it.
func (e *LockedError) Error() string {
	if e.PID > 0 {
		return fmt.Sprintf("state directory %s is in use by process %d", e.Dir, e.PID)
	}
	return fmt.Sprintf("state directory %s is in use by another process", e.Dir)
}

// Hint says what to do.
func (e *LockedError) Hint() string { return "stop it, or give this one its own --state-dir" }

// Lock makes the directory, mode 0700, when it is missing, and keeps others who
// lock the same name out until the file is closed, which then holds this
// process's id. The system gives the lock back when the process dies; the file
// stays. While another has it the error is a [*LockedError].
func Lock(dir, name string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{Dir: dir, PID: readPID(f)}
		}
		return nil, fmt.Errorf("lock state directory %s: %w", dir, err)
	}
	// The number only makes another's message better: on a full disk it stays out.
	if f.Truncate(0) == nil {
		f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	return f, nil
}

// readPID reads the holder's process id; 0 when there is none.
func readPID(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
