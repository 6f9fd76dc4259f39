package node

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"syscall"
)

// diskError is what could not be kept on disk, and why. The store says that
// memory has the change; where this is used it is taken back, or ends with the
// process.
type diskError struct {
	what string
	err  error
}

// newDiskError takes what a store returned.
func newDiskError(what string, err error) *diskError {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path
	}
	return &diskError{what: what, err: err}
}

// notKept is newDiskError for what may be nil, and then stays so.
func notKept(what string, err error) error {
	if err == nil {
		return nil
	}
	return newDiskError(what, err)
}

func (e *diskError) Error() string { return e.what + ": " + e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

// Hint says what to do, or nothing.
func (e *diskError) Hint() string {
	switch {
	case errors.Is(e.err, syscall.ENOSPC), errors.Is(e.err, syscall.EDQUOT):
		return "make room on the disk of the state directory"
	case errors.Is(e.err, syscall.EROFS):
		return "make the state directory writable"
	}
	return ""
}

// relayTrouble says for people why there is no session with a relay.
func relayTrouble(err error) string {
	var (
		op  *net.OpError
		dns *net.DNSError
	)
	if !errors.As(err, &op) {
		return err.Error()
	}
	who := "the relay"
	switch {
	case op.Op == "proxyconnect":
		who = "the HTTP proxy"
	case op.Addr != nil:
		who = op.Addr.String()
	}
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "host " + dns.Name + " is not known"
	case errors.Is(err, syscall.ECONNREFUSED):
		return who + " refuses connections"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return who + " cannot be reached from here"
	}
	return err.Error()
}

// ofHTTPS reports whether err came of trying a relay over TLS.
func ofHTTPS(err error) bool {
	var web *url.Error
	return errors.As(err, &web)
}
