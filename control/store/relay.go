package store

import (
	"errors"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// ErrKeyRole refuses a join with a registration key that is for something else:
// relays where a device joins, devices where a relay does.
var ErrKeyRole = errors.New("registration key is for something else")

// Relay is a stand-alone relay.
type Relay struct {
	ID, Name   string
	PublicKey  key.Public
	Address    controlapi.RelayAddress
	Version    string
	RegKeyID   string    // key it joined with last
	Alive      bool      // was heard of when the service last looked
	Created    time.Time // first joined
	LastSeen   time.Time // zero when it was never heard of
	Credential Hash
}

// RelayJoin is a proved wish to be a relay.
type RelayJoin struct {
	Secret    Hash // of the registration key
	PublicKey key.Public
	Name      string
	Address   controlapi.RelayAddress
	Version   string

	RelayID    string // id of the relay if it is a new one
	Credential Hash
	Now        time.Time
}

// RelayState is what changes in a relay while it runs.
type RelayState struct {
	Address  controlapi.RelayAddress
	Version  string
	Alive    bool
	LastSeen time.Time
}

// Denial says that relay credentials of a key do not count that expire at Until
// (whole seconds) or before: the key lost its membership.
type Denial struct {
	Network   string
	PublicKey key.Public
	Until     time.Time
	Position  uint64 // in the order of the store
}
