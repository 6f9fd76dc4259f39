package control

import (
	"errors"

	"nexd/control/store"
)

// StartError is why the service does not start, with what to do about it. A socket
// that cannot be had is a [sockerr.Error].
type StartError struct {
	Message string
	Advice  string
	// Wrong says that the configuration cannot be meant; otherwise the same
	// start may do better later.
	Wrong bool
	Err   error
}

func (e *StartError) Error() string { return e.Message }
func (e *StartError) Unwrap() error { return e.Err }

// Hint says what to do, or nothing.
func (e *StartError) Hint() string { return e.Advice }

// databaseError adds what to do about the database; nil stays nil.
func databaseError(err error) error {
	var known *StartError
	if hint := store.Hint(err); hint != "" && !errors.As(err, &known) {
		return &StartError{Message: err.Error(), Advice: hint, Err: err}
	}
	return err
}
