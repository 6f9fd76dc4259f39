package bind

import (
	"errors"
	"fmt"
	"syscall"
)

// PortError says that the UDP port cannot be had. errors.Is finds the cause:
// syscall.EADDRINUSE when somebody else has it, syscall.EACCES when it needs
// privileges.
type PortError struct {
	Port uint16 // 0: any port
	Err  error
}

func (e *PortError) Error() string {
	switch {
	case e.Port == 0:
		return fmt.Sprintf("open a udp port: %v", e.Err)
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return fmt.Sprintf("udp port %d is in use: choose another one, or 0 for a free one", e.Port)
	case errors.Is(e.Err, syscall.EACCES):
		return fmt.Sprintf("udp port %d needs privileges: choose one above 1023, or 0 for a free one", e.Port)
	}
	return fmt.Sprintf("open udp port %d: %v", e.Port, e.Err)
}

func (e *PortError) Unwrap() error { return e.Err }

func portError(port uint16, err error) error { return &PortError{Port: port, Err: err} }
