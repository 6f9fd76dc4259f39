package relayd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"nexd/controlapi"
	"nexd/internal/durable"
	"nexd/key"
)

// Files in the state directory. A node or the service may have its own beside them.
const (
	recordName = "relay.json"
	lockName   = "relay.lock"
	certName   = "relay.crt"
	tlsKeyName = "relay.key"
)

const (
	recordFormat  = "nexd relay"
	recordVersion = 1
	maxRecord     = 16 << 20 // bytes
)

// record is what a relay must not forget. It holds secrets.
type record struct {
	private    key.Private // the relay's identity
	serviceURL string      // the service it registered with
	pin        controlapi.Pin
	id, name   string // as the service has them
	credential string // towards the service; empty: not registered, or deleted
	issuers    []ed25519.PublicKey
	denied     []controlapi.RelayDenied
	next       uint64 // since of the next heartbeat
}

// envelope is the file: one line of JSON. SHA256 is that of Data without white
// space, so damage does not pass for content.
type envelope struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"`
	Data    json.RawMessage `json:"data"`
}

type recordData struct {
	PrivateKey string                   `json:"private_key"`
	ServiceURL string                   `json:"service_url,omitempty"`
	Pin        controlapi.Pin           `json:"pin,omitempty"`
	ID         string                   `json:"id,omitempty"`
	Name       string                   `json:"name,omitempty"`
	Credential string                   `json:"credential,omitempty"`
	Issuers    [][]byte                 `json:"issuers,omitempty"`
	Denied     []controlapi.RelayDenied `json:"denied,omitempty"`
	Next       uint64                   `json:"next,omitempty"`
}

// encode returns the bytes of the file.
func (r record) encode() ([]byte, error) {
	d := recordData{
		PrivateKey: r.private.Reveal(), ServiceURL: r.serviceURL, Pin: r.pin, ID: r.id, Name: r.name,
		Credential: r.credential, Denied: r.denied, Next: r.next,
	}
	for _, k := range r.issuers {
		d.Issuers = append(d.Issuers, k)
	}
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode relay state: %w", err)
	}
	sum := sha256.Sum256(data)
	b, err := json.Marshal(envelope{Format: recordFormat, Version: recordVersion, SHA256: hex.EncodeToString(sum[:]), Data: data})
	if err != nil {
		return nil, fmt.Errorf("encode relay state: %w", err)
	}
	return append(b, '\n'), nil
}

// The ways in which a file cannot be understood.
var (
	errForeign = errors.New("is not a relay's state file, or is damaged")
	errNewer   = errors.New("was written by a newer nexd")
)

// decodeRecord is the inverse of encode. Its errors repeat nothing of the content.
func decodeRecord(b []byte) (record, error) {
	var e envelope
	if json.Unmarshal(b, &e) != nil || e.Format != recordFormat || e.Version < 1 {
		return record{}, errForeign
	}
	if e.Version > recordVersion {
		return record{}, errNewer
	}
	var data bytes.Buffer
	if json.Compact(&data, e.Data) != nil {
		return record{}, errForeign
	}
	if sum := sha256.Sum256(data.Bytes()); hex.EncodeToString(sum[:]) != e.SHA256 {
		return record{}, errForeign
	}
	var d recordData
	if json.Unmarshal(data.Bytes(), &d) != nil {
		return record{}, errForeign
	}
	private, err := key.ParsePrivate(d.PrivateKey)
	if err != nil {
		return record{}, errForeign
	}
	issuers, err := readIssuers(d.Issuers)
	if err != nil {
		return record{}, errForeign
	}
	return record{
		private: private, serviceURL: d.ServiceURL, pin: d.Pin, id: d.ID, name: d.Name,
		credential: d.Credential, issuers: issuers, denied: d.Denied, next: d.Next,
	}, nil
}

// maxIssuers is how many services' keys a relay believes.
const maxIssuers = 8

// readIssuers takes keys from the service or from disk.
func readIssuers(raw [][]byte) ([]ed25519.PublicKey, error) {
	if len(raw) > maxIssuers {
		return nil, fmt.Errorf("%d issuers: at most %d", len(raw), maxIssuers)
	}
	var keys []ed25519.PublicKey
	for _, k := range raw {
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an issuer of %d bytes: want %d", len(k), ed25519.PublicKeySize)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// book keeps the record, in memory and on disk. Its methods are safe for
// concurrent use; only one goroutine updates.
type book struct {
	path string

	mu      sync.Mutex // guards current; never held during I/O
	current record
	behind  bool // of the updating goroutine: the last write failed
}

// openBook reads the record; a directory without one has none. The directory is
// locked already.
func openBook(dir string) (*book, error) {
	b := &book{path: filepath.Join(dir, recordName)}
	content, err := durable.ReadFile(b.path, maxRecord)
	if err != nil {
		return nil, fmt.Errorf("read relay state: %w", err)
	}
	if content == nil {
		return b, nil
	}
	b.current, err = decodeRecord(content)
	switch {
	case errors.Is(err, errNewer):
		return nil, &UsageError{
			Message: fmt.Sprintf("state file %s %v", b.path, err),
			Hint:    "use that version again, or move the file away and register again with a registration key",
		}
	case err != nil:
		return nil, &UsageError{
			Message: fmt.Sprintf("state file %s %v", b.path, err),
			Hint:    "nothing was changed; restore it from a backup, or move it away and register again with a registration key",
		}
	}
	return b, nil
}

// read returns the record. Its slices are replaced, never changed.
func (b *book) read() record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

// update changes the record and returns when that is durable. When the file
// cannot be written it stays the old one, memory has the new record all the
// same, and the next update writes all of it. What change did not change is
// not written.
func (b *book) update(change func(*record)) error {
	before := b.read()
	next := before
	change(&next)
	old, err := before.encode()
	if err != nil {
		return err
	}
	content, err := next.encode()
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.current = next
	b.mu.Unlock()
	if bytes.Equal(old, content) && !b.behind {
		return nil
	}
	b.behind = true
	if err := durable.WriteFile(b.path, content); err != nil {
		return err
	}
	b.behind = false
	return nil
}
