// Package sockerr explains to people why a daemon's socket cannot be had: [Check]
// before it is tried, [Listen] after.
package sockerr

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Error is why a socket cannot be had. The same start may do better later.
type Error struct {
	Message string
	Advice  string // may be empty
	Err     error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do, or nothing.
func (e *Error) Hint() string { return e.Advice }

// Check holds a listen address to host:port; empty is right: it means the default,
// or none. flag is where the address was written.
func Check(flag, address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %q: want ADDRESS:PORT or :PORT (IPv6 as [::1]:PORT)", flag, address)
	}
	if _, err := net.LookupPort("udp", port); err != nil {
		return fmt.Errorf("%s %q: port %q is not between 0 and 65535", flag, address, port)
	}
	return nil
}

// Listen explains err, which listening on address gave; flag is where the
// address was written.
func Listen(flag, address string, err error) *Error {
	e := &Error{Err: err}
	host, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		e.Message = fmt.Sprintf("%s %s: the port is in use by another program", flag, address)
		e.Advice = "stop that program, or choose another port"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Message = fmt.Sprintf("%s %s: port %s needs privileges", flag, address, port)
		e.Advice = "choose a port from 1024, or allow this one (CAP_NET_BIND_SERVICE)"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		e.Message = fmt.Sprintf("%s %s: this machine has no address %s", flag, address, host)
		e.Advice = "use one it has, or :" + port + " for all of them"
	default:
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		e.Message = fmt.Sprintf("%s %s: %v", flag, address, err)
	}
	return e
}
