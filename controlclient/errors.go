package controlclient

import (
	"errors"
	"fmt"
	"time"

	"nexd/controlapi"
)

// ErrDeleted is the end of [Client.Watch]: the service no longer knows the
// device. Joining anew is the only way back.
var ErrDeleted = errors.New("this device was deleted from the network")

// ErrReplaced is reported to OnState while Watch holds back because another
// stream of the same device took over.
var ErrReplaced = errors.New("another program is connected as this device: is its state directory copied or used twice?")

// PinError is a service that has another key than the pinned one.
type PinError struct {
	Host      string
	Want, Got controlapi.Pin
}

func (e *PinError) Error() string {
	return fmt.Sprintf("the certificate of %s is not the pinned one: want %s, got %s", e.Host, e.Want, e.Got)
}

// Hint says what to do.
func (*PinError) Hint() string {
	return "either the service was set up anew (ask for a new registration key) or something between answers in its place"
}

// CertTimeError is a certificate outside its dates, by this machine's clock.
type CertTimeError struct {
	Host                string
	Now                 time.Time
	NotBefore, NotAfter time.Time
}

func (e *CertTimeError) Error() string {
	const layout = "2006-01-02 15:04 MST"
	now := e.Now.UTC().Format(layout)
	if e.Now.Before(e.NotBefore) {
		return fmt.Sprintf("the certificate of %s begins %s, and this clock says %s", e.Host, e.NotBefore.UTC().Format(layout), now)
	}
	return fmt.Sprintf("the certificate of %s ended %s, and this clock says %s", e.Host, e.NotAfter.UTC().Format(layout), now)
}

// Hint compares the clock with what is known.
func (e *CertTimeError) Hint() string {
	if e.Now.Before(e.NotBefore) {
		return fmt.Sprintf("this machine's clock is probably at least %s slow: set it", roughly(e.NotBefore.Sub(e.Now)))
	}
	return fmt.Sprintf("set the clock if it is wrong (by %s or more); else the service needs a new certificate", roughly(e.Now.Sub(e.NotAfter)))
}

// roughly prints a duration as a person says it.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d/time.Minute))
	}
	return fmt.Sprintf("%d seconds", int(d/time.Second)+1)
}

// ConnectError is a service that was not reached, or something else in its
// place. Message is a sentence for a person, Err the cause.
type ConnectError struct {
	Message string
	Advice  string
	Err     error
	// final: trying again will not help.
	final bool
}

func (e *ConnectError) Error() string { return e.Message }
func (e *ConnectError) Unwrap() error { return e.Err }

// Hint says what to do, or nothing.
func (e *ConnectError) Hint() string { return e.Advice }

// Hint returns what a person can do about err, or "" where nothing is known.
func Hint(err error) string {
	if p := (*controlapi.Problem)(nil); errors.As(err, &p) {
		return p.Hint
	}
	var h interface {
		error
		Hint() string
	}
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
