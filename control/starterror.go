package control

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"nexd/control/store"
)

// StartError is why the service does not start, with what to do about it.
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

// listenError explains why a socket of flag cannot be had.
func listenError(flag, addr string, err error) error {
	e := &StartError{Err: err}
	host, port, _ := net.SplitHostPort(addr)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		e.Message = fmt.Sprintf("%s %s: the port is in use by another program", flag, addr)
		e.Advice = "stop that program, or choose another port"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Message = fmt.Sprintf("%s %s: port %s needs privileges", flag, addr, port)
		e.Advice = "choose a port from 1024, or allow this one (CAP_NET_BIND_SERVICE)"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		e.Message = fmt.Sprintf("%s %s: this machine has no address %s", flag, addr, host)
		e.Advice = "use one it has, or :" + port + " for all of them"
	default:
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		e.Message = fmt.Sprintf("%s %s: %v", flag, addr, err)
	}
	return e
}

// databaseError adds what to do about the database; nil stays nil.
func databaseError(err error) error {
	var known *StartError
	if hint := store.Hint(err); hint != "" && !errors.As(err, &known) {
		return &StartError{Message: err.Error(), Advice: hint, Err: err}
	}
	return err
}
