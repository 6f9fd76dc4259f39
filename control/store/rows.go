package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/key"
)

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type scanner interface{ Scan(dest ...any) error }

const deviceColumns = `id, network_id, name, public_key, v4, v6, tags, ephemeral, credential_hash,
	reg_key_id, version, os, created, joined, last_seen, revision, relays`

// damagedError is a row that was found but makes no sense.
type damagedError struct {
	id  string
	err error
}

func (e *damagedError) Error() string { return fmt.Sprintf("record %s: %v", e.id, e.err) }
func (e *damagedError) Unwrap() error { return ErrDamaged }

// scanDevice reads one row and checks every field: the database is a file that
// others can change. Columns are scanned loosely so that a value of a wrong
// kind damages its row and nothing else.
func scanDevice(row scanner) (Device, error) {
	var raw [17]any
	dest := make([]any, len(raw))
	for i := range raw {
		dest[i] = &raw[i]
	}
	if err := row.Scan(dest...); err != nil {
		return Device{}, err
	}
	r := reader{}
	d := Device{
		ID: r.text(raw[0]), Network: r.text(raw[1]), Name: r.text(raw[2]),
		V4:        r.v4(raw[4]),
		Tags:      r.tags(raw[6]),
		Ephemeral: r.truth(raw[7]),
		RegKeyID:  r.text(raw[9]), Version: r.text(raw[10]), OS: r.text(raw[11]),
		Created: r.time(raw[12]), Joined: r.time(raw[13]), LastSeen: r.time(raw[14]),
		Revision: uint64(r.number(raw[15])),
		Relays:   r.list(raw[16]),
	}
	var err error
	if d.PublicKey, err = key.ParsePublic(r.text(raw[3])); err != nil {
		r.fail(err)
	}
	if d.V6, err = netip.ParseAddr(r.text(raw[5])); err != nil || !d.V6.Is6() {
		r.fail(fmt.Errorf("IPv6 address %v", raw[5]))
	}
	if h, err := hex.DecodeString(r.text(raw[8])); err != nil || len(h) != len(d.Credential) {
		r.fail(errors.New("credential hash"))
	} else {
		d.Credential = Hash(h)
	}
	if err := controlapi.CheckName(d.Name); err != nil {
		r.fail(err)
	}
	if d.ID == "" {
		r.fail(errors.New("empty id"))
	}
	if r.err != nil {
		return Device{}, &damagedError{id: d.ID, err: r.err}
	}
	return d, nil
}

// queryDevices reads rows; a damaged one is logged and left out.
func (s *SQLite) queryDevices(ctx context.Context, q querier, query string, args ...any) ([]Device, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Device
	for rows.Next() {
		d, err := scanDevice(rows)
		if errors.Is(err, ErrDamaged) {
			s.log.Error("device left out: its record in the database is damaged", logkey.Err, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// queryDevice reads one row; none is ErrNotFound.
func queryDevice(ctx context.Context, q querier, where string, args ...any) (Device, error) {
	d, err := scanDevice(q.QueryRowContext(ctx, `SELECT `+deviceColumns+` FROM devices WHERE `+where, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return Device{}, ErrNotFound
	}
	return d, err
}

// reader turns loose values into fields and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	r.fail(fmt.Errorf("%T in place of text", v))
	return ""
}

func (r *reader) number(v any) int64 {
	n, ok := v.(int64)
	if !ok || n < 0 {
		r.fail(fmt.Errorf("%T in place of a number that is not negative", v))
		return 0
	}
	return n
}

func (r *reader) truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case int64:
		return v != 0
	}
	r.fail(fmt.Errorf("%T in place of a boolean", v))
	return false
}

func (r *reader) time(v any) time.Time { return fromMillis(r.number(v)) }

func (r *reader) v4(v any) netip.Addr {
	n := r.number(v)
	if n > 1<<32-1 {
		r.fail(fmt.Errorf("IPv4 address %d", n))
	}
	return v4Addr(n)
}

func (r *reader) tags(v any) []string {
	var tags []string
	if err := json.Unmarshal([]byte(r.text(v)), &tags); err != nil {
		r.fail(errors.New("tags"))
	}
	return tags
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}

func v4Number(a netip.Addr) int64 {
	b := a.As4()
	return int64(binary.BigEndian.Uint32(b[:]))
}

func v4Addr(n int64) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(n))
	return netip.AddrFrom4(b)
}

// tagsText is the canonical form: sorted, each once, never null.
func tagsText(tags []string) string {
	tags = slices.Compact(slices.Sorted(slices.Values(tags)))
	if tags == nil {
		tags = []string{}
	}
	b, _ := json.Marshal(tags) // strings always marshal
	return string(b)
}

func (h Hash) text() string { return hex.EncodeToString(h[:]) }
