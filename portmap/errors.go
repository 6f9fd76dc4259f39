package portmap

import (
	"errors"
	"fmt"
)

var (
	// errNotAnswer: a packet that does not answer what was asked.
	errNotAnswer = errors.New("not an answer to what was asked")
	// errOldGateway: the gateway speaks NAT-PMP but not PCP.
	errOldGateway = errors.New("the gateway speaks another version")
	// errSilent: nobody answered.
	errSilent  = errors.New("no answer")
	errNoRoute = errors.New("no route to the internet")
	// errNoGateway: there is nobody to ask.
	errNoGateway = errors.New("the gateway's address is not known")
)

// refusal is a gateway's no: it understood what was asked.
type refusal struct{ why string }

func (r refusal) Error() string { return "the gateway refuses: " + r.why }

func refused(format string, args ...any) error { return refusal{fmt.Sprintf(format, args...)} }
