package state

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// LockedError is the error of opening a directory that another daemon has.
type LockedError struct {
	Dir string
	PID int // of that daemon; 0 when it could not be read
}

// Error says which daemon has the directory and how to run beside it.
func (e *LockedError) Error() string {
	daemon := "another nexd"
	if e.PID > 0 {
		daemon = fmt.Sprintf("another nexd (process %d)", e.PID)
	}
	return fmt.Sprintf("state directory %s is in use by %s: %s", e.Dir, daemon, e.Hint())
}

// Hint says what to do.
func (e *LockedError) Hint() string { return "stop it, or give this one its own --state-dir" }

// FileError is the error of a file or directory that is there but cannot be
// used. It was left as it is.
type FileError struct {
	File string
	Hint string // what to do
	Err  error  // what is wrong with it
}

// Error returns all of it in one line.
func (e *FileError) Error() string { return fmt.Sprintf("%s: %s", e.Message(), e.Hint) }

// Message returns it without the hint.
func (e *FileError) Message() string { return fmt.Sprintf("state file %s %v", e.File, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

const (
	hintRestore = "nothing was changed; restore it from a backup, or move it away and join again with a registration key"
	hintNewer   = "use that version again, or move the file away and join again with a registration key"
	hintOwner   = "give the directory to the user nexd runs as, or choose another with --state-dir"
	hintNoWrite = "choose a directory that can be written with --state-dir, or keep nothing with --ephemeral"
)

// dirHint says what to do about an error of using the directory.
func dirHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return hintOwner
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on its disk, or choose another directory with --state-dir"
	}
	return hintNoWrite
}
