package store

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nexd/key"
)

// Join is a proved wish for membership.
type Join struct {
	Secret      Hash // of the registration key
	PublicKey   key.Public
	Name        string
	NumberName  bool       // a taken name becomes NAME-2, NAME-3, ...
	RequestIP   netip.Addr // invalid: any
	Ephemeral   bool
	Version, OS string

	DeviceID   string // id of the device if it is a new one
	Credential Hash
	Now        time.Time
	Deny       time.Time // as in [Deletion], of the key that loses its place to this one
	// Connected reports whether a device has a stream now. It is called within
	// the transaction and must not call the store.
	Connected func(id string) bool
}

// JoinKind says how the device came to be.
type JoinKind uint8

const (
	JoinedNew       JoinKind = iota + 1 // a new device
	JoinedAgain                         // the same key, the same device
	JoinedReclaimed                     // another key took over a device's name and address
)

// String returns the word used in metrics and logs.
func (k JoinKind) String() string {
	switch k {
	case JoinedNew:
		return "new"
	case JoinedAgain:
		return "again"
	case JoinedReclaimed:
		return "reclaimed"
	}
	return "invalid"
}

// JoinResult is the device as it is now.
type JoinResult struct {
	Device  Device
	Network Network
	Kind    JoinKind
}

// Refusals of a join. Nothing was changed.
var (
	ErrKeyUnknown = errors.New("no such registration key")
	ErrKeyExpired = errors.New("registration key has expired")
	ErrKeyUsed    = errors.New("registration key was used by another device")
	ErrConnected  = errors.New("the device of this name is connected")
	ErrExhausted  = errors.New("no free address left")
)

// NameTakenError says that a name belongs to another device.
type NameTakenError struct{ Name string }

// Error names the name.
func (e *NameTakenError) Error() string { return fmt.Sprintf("device name %q is taken", e.Name) }

// AddressError says why a wanted address cannot be given.
type AddressError struct {
	Addr    netip.Addr
	Problem AddressProblem
	Range   netip.Prefix
	Has     netip.Addr // the address the device has, of AddressOther
}

// AddressProblem is a reason of an [AddressError].
type AddressProblem uint8

const (
	AddressOutside  AddressProblem = iota + 1 // not in the network's range
	AddressReserved                           // the range's first or last address
	AddressTaken                              // another device has it
	AddressResting                            // another device had it until a moment ago
	AddressOther                              // this device has another address already
)

// Error names the address and the reason.
func (e *AddressError) Error() string {
	switch e.Problem {
	case AddressOutside:
		return fmt.Sprintf("address %s is outside of the network's range %s", e.Addr, e.Range)
	case AddressReserved:
		return fmt.Sprintf("address %s is reserved in the range %s", e.Addr, e.Range)
	case AddressTaken:
		return fmt.Sprintf("address %s belongs to another device", e.Addr)
	case AddressResting:
		return fmt.Sprintf("address %s was another device's until a moment ago", e.Addr)
	case AddressOther:
		return fmt.Sprintf("this device is a member with the address %s already, not %s", e.Has, e.Addr)
	}
	return fmt.Sprintf("address %s cannot be given", e.Addr)
}
