package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"nexd/controlapi"
	"nexd/key"
)

const (
	formatName = "nexd state"
	// MaxSize bounds the file, in bytes, when reading and when writing.
	MaxSize = 64 << 20
)

// envelope is the file; record its data.
type envelope struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"`
	Data    json.RawMessage `json:"data"`
}

type record struct {
	PrivateKey string          `json:"private_key,omitempty"`
	ListenPort uint16          `json:"listen_port,omitempty"`
	ServiceURL string          `json:"service_url,omitempty"`
	Pin        controlapi.Pin  `json:"pin,omitempty"`
	Credential string          `json:"credential,omitempty"`
	Ephemeral  bool            `json:"ephemeral,omitempty"`
	Map        *controlapi.Map `json:"map,omitempty"`
	Rules      []Rule          `json:"rules,omitempty"`
	Removed    []Rule          `json:"removed_rules,omitempty"`
	Hints      []Hint          `json:"hints,omitempty"`
}

// encode returns the bytes of the file.
func encode(d Data) ([]byte, error) {
	r := record{
		ListenPort: d.ListenPort, ServiceURL: d.ServiceURL, Pin: d.Pin, Credential: d.Credential,
		Ephemeral: d.Ephemeral, Map: d.Map, Rules: d.Rules, Removed: d.RemovedRules, Hints: d.Hints,
	}
	if !d.PrivateKey.IsZero() {
		r.PrivateKey = d.PrivateKey.Reveal()
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	if len(data) > MaxSize-1024 { // room for the envelope
		return nil, fmt.Errorf("encode state: %d bytes are more than the %d that can be read again", len(data), MaxSize)
	}
	sum := sha256.Sum256(data)
	b, err := json.Marshal(envelope{Format: formatName, Version: Version, SHA256: hex.EncodeToString(sum[:]), Data: data})
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	b = append(b, '\n')
	// What cannot be read again is not written: it would be found at the next start.
	if _, err := decode(b); err != nil {
		return nil, fmt.Errorf("encode state: the result %w", err)
	}
	return b, nil
}

// The ways in which a file cannot be understood, as the problem of a FileError.
var (
	errEmpty   = errors.New("is empty")
	errCut     = errors.New("is cut off or damaged")
	errForeign = errors.New("is not a state file of nexd")
	errStrange = errors.New("holds a value that nexd cannot read")
	errDamaged = errors.New("is damaged: its checksum does not match its content")
	errNewer   = errors.New("was written by a newer nexd")
)

// fileHead is how every file begins.
var fileHead = []byte(`{"format":"` + formatName + `"`)

// decode is the inverse of encode. Its errors repeat nothing of the content.
func decode(b []byte) (Data, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return Data{}, errEmpty
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		if begun := bytes.HasPrefix(b, fileHead) || bytes.HasPrefix(fileHead, b); begun && !json.Valid(b) {
			return Data{}, errCut
		}
		return Data{}, errForeign
	}
	switch {
	case e.Format != formatName || e.Version < 1:
		return Data{}, errForeign
	case e.Version > Version:
		return Data{}, fmt.Errorf("%w: version %d, this one reads up to %d", errNewer, e.Version, Version)
	}
	var data bytes.Buffer
	if err := json.Compact(&data, e.Data); err != nil {
		return Data{}, errCut
	}
	if sum := sha256.Sum256(data.Bytes()); hex.EncodeToString(sum[:]) != e.SHA256 {
		return Data{}, errDamaged
	}
	var r record
	if err := json.Unmarshal(data.Bytes(), &r); err != nil {
		return Data{}, errStrange
	}
	d := Data{
		Version: e.Version, ListenPort: r.ListenPort, ServiceURL: r.ServiceURL, Pin: r.Pin, Credential: r.Credential,
		Ephemeral: r.Ephemeral, Map: r.Map, Rules: r.Rules, RemovedRules: r.Removed, Hints: r.Hints,
	}
	if r.PrivateKey != "" {
		p, err := key.ParsePrivate(r.PrivateKey)
		if err != nil {
			return Data{}, fmt.Errorf("holds a key that is none: %w", err)
		}
		d.PrivateKey = p
	}
	return d, nil
}
