package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"nexd/rules"
)

// dialError says what was dialled and, for the common causes, no more than that.
func dialError(what string, err error) error {
	var timeout net.Error
	var system *net.DNSError
	var unknown *nameError
	switch {
	case errors.As(err, &system):
		return inWords(system)
	case errors.As(err, &unknown):
		return err
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("dial %s: %w", what, syscall.ECONNREFUSED)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("dial %s: no answer in time: %w", what, err)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the words and addresses that stand before it
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return fmt.Errorf("dial %s: %w", what, err)
}

// inWords is what the system's resolver says of a name.
func inWords(err *net.DNSError) *nameError {
	if err.IsNotFound {
		return &nameError{err.Name, nil}
	}
	return &nameError{err.Name, errors.New(err.Err)}
}

// listenError says what to do about an address that cannot be listened on.
func listenError(key rules.ListenKey, at netip.AddrPort, err error) error {
	where := fmt.Sprintf("listen on %s %s", key.Protocol, at)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: the port is in use by another program or rule (%w)", where, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES) && key.Port < 1024:
		return fmt.Errorf("%s: the port needs a privilege: use a port from 1024 up, for example --%s %s:%d:…, or lower net.ipv4.ip_unprivileged_port_start (%w)",
			where, key.Direction, key.Protocol, higherPort(key.Port), syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this %s does not have the address (%w)", where, place(key.Direction), syscall.EADDRNOTAVAIL)
	}
	return fmt.Errorf("%s: %w", where, err)
}

func higherPort(p uint16) uint16 {
	if p < 100 {
		return 8000 + p
	}
	return 8000 + p%1000
}

func place(d rules.Direction) string {
	if d == rules.Ingress {
		return "device's part of the mesh"
	}
	return "host"
}
