package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/key"
)

const relayColumns = `id, name, public_key, udp, url, pin, credential_hash, reg_key_id, version, alive, created, last_seen`

// JoinRelay implements [Store].
func (s *SQLite) JoinRelay(ctx context.Context, j RelayJoin) (Relay, error) {
	var r Relay
	err := s.tx(ctx, func(tx *sql.Tx) error {
		var network string
		err := tx.QueryRowContext(ctx, `SELECT network_id FROM reg_keys WHERE secret_hash = $1`, j.Secret.text()).Scan(&network)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrKeyUnknown
		}
		if err != nil {
			return err
		}
		k, err := regKeyByHash(ctx, tx, network, j.Secret)
		switch {
		case err != nil:
			return err
		case k.Role != controlapi.RoleRelay:
			return ErrKeyRole
		case k.expired(j.Now):
			return ErrKeyExpired
		}
		fresh := false
		r, err = queryRelay(ctx, tx, `public_key = $1`, j.PublicKey.String())
		switch {
		case errors.Is(err, ErrNotFound):
			fresh = true
			r = Relay{ID: j.RelayID, Name: j.Name, PublicKey: j.PublicKey, Created: j.Now}
		case err != nil:
			return err
		}
		if !k.admits(r.ID, fresh) {
			return ErrKeyUsed
		}
		r.Address, r.Version, r.RegKeyID, r.Credential = j.Address, j.Version, k.ID, j.Credential
		if fresh {
			err = insertRelay(ctx, tx, r)
		} else {
			err = updateRelay(ctx, tx, r)
		}
		if err != nil {
			return err
		}
		return noteKeyUse(ctx, tx, network, k, r.ID, fresh, j.Now)
	})
	if err != nil {
		return Relay{}, fmt.Errorf("join relay: %w", err)
	}
	return r, nil
}

func insertRelay(ctx context.Context, tx *sql.Tx, r Relay) error {
	var taken int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM relays WHERE name = $1`, r.Name).Scan(&taken); err != nil {
		return err
	}
	if taken > 0 {
		return &NameTakenError{Name: r.Name}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO relays (`+relayColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		r.ID, r.Name, r.PublicKey.String(), listText(r.Address.UDP), r.Address.URL, string(r.Address.Pin),
		r.Credential.text(), r.RegKeyID, r.Version, r.Alive, millis(r.Created), millis(r.LastSeen))
	return err
}

func updateRelay(ctx context.Context, tx *sql.Tx, r Relay) error {
	_, err := tx.ExecContext(ctx, `UPDATE relays SET udp = $2, url = $3, pin = $4, credential_hash = $5, reg_key_id = $6, version = $7 WHERE id = $1`,
		r.ID, listText(r.Address.UDP), r.Address.URL, string(r.Address.Pin), r.Credential.text(), r.RegKeyID, r.Version)
	return err
}

// AuthenticateRelay implements [Store].
func (s *SQLite) AuthenticateRelay(ctx context.Context, credential Hash) (Relay, error) {
	r, err := queryRelay(ctx, s.read, `credential_hash = $1`, credential.text())
	if err != nil {
		return Relay{}, fmt.Errorf("authenticate relay: %w", err)
	}
	return r, nil
}

// Relays implements [Store].
func (s *SQLite) Relays(ctx context.Context) ([]Relay, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+relayColumns+` FROM relays ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list relays: %w", err)
	}
	defer rows.Close()
	var out []Relay
	for rows.Next() {
		r, err := scanRelay(rows)
		if errors.Is(err, ErrDamaged) {
			s.log.Error("relay left out: its record in the database is damaged", logkey.Err, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list relays: %w", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list relays: %w", err)
	}
	return out, nil
}

// UpdateRelay implements [Store].
func (s *SQLite) UpdateRelay(ctx context.Context, id string, st RelayState) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE relays SET udp = $2, url = $3, pin = $4, version = $5, alive = $6, last_seen = $7 WHERE id = $1`,
			id, listText(st.Address.UDP), st.Address.URL, string(st.Address.Pin), st.Version, st.Alive, millis(st.LastSeen))
		return oneRow(res, err)
	})
	if err != nil {
		return fmt.Errorf("update relay %s: %w", id, err)
	}
	return nil
}

// DeleteRelay implements [Store].
func (s *SQLite) DeleteRelay(ctx context.Context, idOrName string) (string, error) {
	var id string
	err := s.tx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `DELETE FROM relays WHERE id = $1 OR name = $1 RETURNING id`, idOrName).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("delete relay %s: %w", idOrName, err)
	}
	return id, nil
}

// SetHomes implements [Store].
func (s *SQLite) SetHomes(ctx context.Context, network, id string, relays []string) (bool, error) {
	changed := false
	err := s.tx(ctx, func(tx *sql.Tx) error {
		d, err := queryDevice(ctx, tx, `network_id = $1 AND id = $2`, network, id)
		if err != nil || slices.Equal(d.Relays, relays) {
			return err
		}
		revision, err := bump(ctx, tx, network)
		if err != nil {
			return err
		}
		changed = true
		_, err = tx.ExecContext(ctx, `UPDATE devices SET relays = $3, revision = $4 WHERE network_id = $1 AND id = $2`,
			network, id, listText(relays), revision)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("set relays of device %s: %w", id, err)
	}
	return changed, nil
}

// queryRelay reads one row; none is ErrNotFound.
func queryRelay(ctx context.Context, q querier, where string, args ...any) (Relay, error) {
	r, err := scanRelay(q.QueryRowContext(ctx, `SELECT `+relayColumns+` FROM relays WHERE `+where, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return Relay{}, ErrNotFound
	}
	return r, err
}

// scanRelay reads one row as loosely as scanDevice does.
func scanRelay(row scanner) (Relay, error) {
	var raw [12]any
	dest := make([]any, len(raw))
	for i := range raw {
		dest[i] = &raw[i]
	}
	if err := row.Scan(dest...); err != nil {
		return Relay{}, err
	}
	in := reader{}
	r := Relay{
		ID: in.text(raw[0]), Name: in.text(raw[1]),
		Address:  controlapi.RelayAddress{UDP: in.list(raw[3]), URL: in.text(raw[4]), Pin: controlapi.Pin(in.text(raw[5]))},
		RegKeyID: in.text(raw[7]), Version: in.text(raw[8]), Alive: in.truth(raw[9]),
		Created: in.time(raw[10]), LastSeen: in.time(raw[11]),
	}
	var err error
	if r.PublicKey, err = key.ParsePublic(in.text(raw[2])); err != nil {
		in.fail(err)
	}
	if h, err := hex.DecodeString(in.text(raw[6])); err != nil || len(h) != len(r.Credential) {
		in.fail(errors.New("credential hash"))
	} else {
		r.Credential = Hash(h)
	}
	if err := controlapi.CheckName(r.Name); err != nil {
		in.fail(err)
	}
	if err := r.Address.Check(); err != nil {
		in.fail(err)
	}
	if r.ID == "" {
		in.fail(errors.New("empty id"))
	}
	if in.err != nil {
		return Relay{}, &damagedError{id: r.ID, err: in.err}
	}
	return r, nil
}

// list reads a JSON array of texts; an empty one is nil.
func (r *reader) list(v any) []string {
	var list []string
	if err := json.Unmarshal([]byte(r.text(v)), &list); err != nil {
		r.fail(errors.New("list"))
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// listText is a JSON array in the order given, never null.
func listText(list []string) string {
	if list == nil {
		list = []string{}
	}
	b, _ := json.Marshal(list) // strings always marshal
	return string(b)
}

// expired reports whether a key's time is over.
func (k RegKey) expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }
