package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nexd/key"
)

// Store is the service's memory. All methods are safe for concurrent use and
// have made their change durable when they return nil.
type Store interface {
	// Setting returns the value of name; of the calls that find none, the first
	// stores what create returns, and all get that.
	Setting(ctx context.Context, name string, create func() (string, error)) (string, error)
	// PutSetting replaces a value.
	PutSetting(ctx context.Context, name, value string) error

	// EnsureNetwork returns the network of that name, made as described when
	// there is none. The range of an existing one changes to v4 when all
	// addresses in use lie inside; otherwise the error is a *RangeError.
	EnsureNetwork(ctx context.Context, name, domain string, v4, v6 netip.Prefix) (Network, error)
	Network(ctx context.Context, network string) (Network, error)
	// SkipRevisions has the revision go on from to, where it is below. Nothing changes.
	SkipRevisions(ctx context.Context, network string, to uint64) error

	// NetworkOfRegKey returns the network a registration key belongs to, or ErrKeyUnknown.
	NetworkOfRegKey(ctx context.Context, secret Hash) (string, error)
	CreateRegKey(ctx context.Context, network string, k RegKey, secret Hash) error
	RegKeys(ctx context.Context, network string) ([]RegKey, error)
	DeleteRegKey(ctx context.Context, network, id string) error // ErrNotFound

	// Join makes or finds the device in one transaction. Its refusals are the
	// errors of join.go.
	Join(ctx context.Context, network string, j Join) (JoinResult, error)

	// Authenticate returns the device a credential belongs to, or ErrNotFound.
	Authenticate(ctx context.Context, credential Hash) (Device, error)
	// Device returns the device of that id or name, or ErrNotFound.
	Device(ctx context.Context, network, idOrName string) (Device, error)
	// Devices returns all readable devices, in order of name.
	Devices(ctx context.Context, network string) ([]Device, error)
	// Changes returns what happened after revision since.
	Changes(ctx context.Context, network string, since uint64) (Changes, error)
	UpdateDevice(ctx context.Context, network, id string, u Update) (Device, error) // ErrNotFound, *NameTakenError
	// DeleteDevice removes a device, given by id or name, unless keep, called
	// within the transaction, says otherwise (nil: never). It returns the device
	// (of a damaged record the id alone) and whether it was removed.
	DeleteDevice(ctx context.Context, network, idOrName string, del Deletion, keep func(Device) bool) (Device, bool, error) // ErrNotFound
	// SetHomes notes the relays of a device, and whether that changed anything.
	SetHomes(ctx context.Context, network, id string, relays []string) (changed bool, err error) // ErrNotFound
	// Touch notes when devices were last seen. Unknown ids are passed over; the
	// revision stays.
	Touch(ctx context.Context, network string, seen map[string]time.Time) error
	// PruneTombstones keeps the newest deletions only.
	PruneTombstones(ctx context.Context, network string, keep int) error

	// JoinRelay makes or finds the relay in one transaction; a new one is not
	// alive yet. Its refusals are ErrKeyUnknown, ErrKeyRole, ErrKeyExpired,
	// ErrKeyUsed and *NameTakenError.
	JoinRelay(ctx context.Context, j RelayJoin) (Relay, error)
	// AuthenticateRelay returns the relay a credential belongs to, or ErrNotFound.
	AuthenticateRelay(ctx context.Context, credential Hash) (Relay, error)
	// Relays returns all readable relays, in order of name.
	Relays(ctx context.Context) ([]Relay, error)
	UpdateRelay(ctx context.Context, id string, st RelayState) error // ErrNotFound
	// DeleteRelay removes a relay, given by id or name, and returns its id.
	DeleteRelay(ctx context.Context, idOrName string) (id string, err error) // ErrNotFound

	// Denials returns at most limit entries behind position since, in order.
	Denials(ctx context.Context, since uint64, limit int) ([]Denial, error)
	// PruneDenials forgets those that are over before then.
	PruneDenials(ctx context.Context, before time.Time) error

	// CheckWritable makes a small durable change.
	CheckWritable(ctx context.Context) error
	Close() error
}

// Errors of look-ups.
var (
	ErrNotFound = errors.New("not found")
	ErrDamaged  = errors.New("record cannot be read") // of a look-up of one damaged record
)

// Hash is the SHA-256 of a secret.
type Hash [sha256.Size]byte

// HashOf returns the hash of a secret's text.
func HashOf(secret string) Hash { return sha256.Sum256([]byte(secret)) }

// Network is one mesh.
type Network struct {
	ID, Name, Domain string
	V4, V6           netip.Prefix
	Revision         uint64
}

// Device is a member.
type Device struct {
	ID, Network, Name string
	PublicKey         key.Public
	V4, V6            netip.Addr
	Tags              []string // sorted
	Ephemeral         bool
	Relays            []string // ids of its relays, its home first
	Version, OS       string
	RegKeyID          string    // key it joined with last
	Created           time.Time // first joined
	Joined            time.Time // joined last
	LastSeen          time.Time // last stream; zero when there was none
	Revision          uint64    // of its last visible change
	Credential        Hash
}

// RegKey is a registration key without its secret.
type RegKey struct {
	ID, Description               string
	Role                          string // controlapi.RoleDevice or RoleRelay
	SingleUse, Ephemeral, Reclaim bool
	Tags                          []string
	Created, Expires, LastUsed    time.Time // Expires and LastUsed may be zero
	Uses                          int
	UsedBy                        string // id of the device or relay, of a single-use key
}

// Changes is what happened after a revision: every change up to Revision.
// Whole is set when the beginning was forgotten; Upsert is then every device.
type Changes struct {
	Revision uint64
	Whole    bool
	Upsert   []Device
	Remove   []Tombstone // in order of revision
}

// Tombstone is a device that was deleted.
type Tombstone struct {
	ID       string
	Revision uint64
}

// Update changes what is set.
type Update struct {
	Name *string
	Tags *[]string
}

// RangeError says that a network's range cannot become V4.
type RangeError struct {
	Old, V4 netip.Prefix
	Outside int        // devices outside of V4
	Name    string     // one of them
	Addr    netip.Addr // its address
}

// Error says what to do.
func (e *RangeError) Error() string {
	return fmt.Sprintf("the range %s leaves out %d device(s), such as %s at %s: keep %s, or delete these devices first",
		e.V4, e.Outside, e.Name, e.Addr, e.Old)
}
