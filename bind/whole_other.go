//go:build !linux

package bind

import (
	"errors"
	"net"
)

// wholeOn would call do while a socket sends nothing in fragments.
func wholeOn(*net.UDPConn, func() error) error { return errors.ErrUnsupported }
