package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nexd/key"
)

// Authenticate implements [Store].
func (s *SQLite) Authenticate(ctx context.Context, credential Hash) (Device, error) {
	d, err := queryDevice(ctx, s.read, `credential_hash = $1`, credential.text())
	if err != nil {
		return Device{}, fmt.Errorf("authenticate: %w", err)
	}
	return d, nil
}

// Device implements [Store].
func (s *SQLite) Device(ctx context.Context, network, idOrName string) (Device, error) {
	d, err := queryDevice(ctx, s.read, `network_id = $1 AND (id = $2 OR name = $2)`, network, idOrName)
	if err != nil {
		return Device{}, fmt.Errorf("device %s: %w", idOrName, err)
	}
	return d, nil
}

// Devices implements [Store].
func (s *SQLite) Devices(ctx context.Context, network string) ([]Device, error) {
	ds, err := s.queryDevices(ctx, s.read, `SELECT `+deviceColumns+` FROM devices WHERE network_id = $1 ORDER BY name`, network)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return ds, nil
}

// Changes implements [Store]. It reads in one transaction: what it returns is
// the state of exactly that revision.
func (s *SQLite) Changes(ctx context.Context, network string, since uint64) (Changes, error) {
	c, err := s.changes(ctx, network, since)
	if err != nil {
		return Changes{}, fmt.Errorf("changes since %d: %w", since, err)
	}
	return c, nil
}

func (s *SQLite) changes(ctx context.Context, network string, since uint64) (Changes, error) {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return Changes{}, err
	}
	defer tx.Rollback()
	var revision, pruned int64
	err = tx.QueryRowContext(ctx, `SELECT revision, pruned_revision FROM networks WHERE id = $1`, network).Scan(&revision, &pruned)
	if errors.Is(err, sql.ErrNoRows) {
		return Changes{}, ErrNotFound
	}
	if err != nil {
		return Changes{}, err
	}
	c := Changes{Revision: uint64(revision)}
	if since == c.Revision {
		return c, nil
	}
	from := int64(-1)
	if since < uint64(pruned) || since > c.Revision {
		c.Whole = true
	} else {
		from = int64(since)
	}
	c.Upsert, err = s.queryDevices(ctx, tx, `SELECT `+deviceColumns+` FROM devices WHERE network_id = $1 AND revision > $2 ORDER BY revision, id`,
		network, from)
	if err != nil || c.Whole {
		return c, err
	}
	rows, err := tx.QueryContext(ctx, `SELECT device_id, revision FROM tombstones WHERE network_id = $1 AND revision > $2 ORDER BY revision`, network, from)
	if err != nil {
		return Changes{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var t Tombstone
		var revision int64
		if err := rows.Scan(&t.ID, &revision); err != nil {
			return Changes{}, err
		}
		t.Revision = uint64(revision)
		c.Remove = append(c.Remove, t)
	}
	return c, rows.Err()
}

// UpdateDevice implements [Store].
func (s *SQLite) UpdateDevice(ctx context.Context, network, id string, u Update) (Device, error) {
	var d Device
	err := s.tx(ctx, func(tx *sql.Tx) error {
		var err error
		if d, err = queryDevice(ctx, tx, `network_id = $1 AND id = $2`, network, id); err != nil {
			return err
		}
		if u.Name != nil && *u.Name != d.Name {
			var taken int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM devices WHERE network_id = $1 AND name = $2`, network, *u.Name).Scan(&taken); err != nil {
				return err
			}
			if taken > 0 {
				return &NameTakenError{Name: *u.Name}
			}
			d.Name = *u.Name
		}
		if u.Tags != nil {
			d.Tags = *u.Tags
		}
		revision, err := bump(ctx, tx, network)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE devices SET name = $3, tags = $4, revision = $5 WHERE network_id = $1 AND id = $2`,
			network, id, d.Name, tagsText(d.Tags), revision); err != nil {
			return err
		}
		d, err = queryDevice(ctx, tx, `network_id = $1 AND id = $2`, network, id)
		return err
	})
	if err != nil {
		return Device{}, fmt.Errorf("update device %s: %w", id, err)
	}
	return d, nil
}

// DeleteDevice implements [Store].
func (s *SQLite) DeleteDevice(ctx context.Context, network, idOrName string, del Deletion, keep func(Device) bool) (Device, bool, error) {
	var d Device
	var deleted bool
	err := s.tx(ctx, func(tx *sql.Tx) error {
		var id, pub, v4 any
		err := tx.QueryRowContext(ctx, `SELECT id, public_key, v4 FROM devices WHERE network_id = $1 AND (id = $2 OR name = $2)`, network, idOrName).
			Scan(&id, &pub, &v4)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		var r reader
		d.ID = r.text(id)
		if r.err != nil {
			return &damagedError{id: idOrName, err: r.err}
		}
		whole, err := queryDevice(ctx, tx, `network_id = $1 AND id = $2`, network, d.ID)
		switch {
		case err == nil:
			d = whole
		case !errors.Is(err, ErrDamaged):
			return err
		}
		if keep != nil && keep(d) {
			return nil
		}
		deleted = true
		return deleteDevice(ctx, tx, network, d.ID, r.text(pub), r.v4(v4), r.err == nil, del)
	})
	if err != nil {
		return Device{}, false, fmt.Errorf("delete device %s: %w", idOrName, err)
	}
	return d, deleted, nil
}

func deleteDevice(ctx context.Context, tx *sql.Tx, network, id, pub string, v4 netip.Addr, rests bool, del Deletion) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM devices WHERE network_id = $1 AND id = $2`, network, id); err != nil {
		return err
	}
	revision, err := bump(ctx, tx, network)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO tombstones (network_id, device_id, revision) VALUES ($1, $2, $3)
		ON CONFLICT (network_id, device_id) DO UPDATE SET revision = excluded.revision`, network, id, revision); err != nil {
		return err
	}
	if _, err := key.ParsePublic(pub); err != nil {
		return nil // of a damaged record: nobody to keep the address for
	}
	if err := deny(ctx, tx, network, pub, del.Deny); err != nil || !rests {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO freed_addresses (network_id, v4, public_key, until) VALUES ($1, $2, $3, $4)
		ON CONFLICT (network_id, v4) DO UPDATE SET public_key = excluded.public_key, until = excluded.until`,
		network, v4Number(v4), pub, millis(del.Rest))
	return err
}

// Touch implements [Store].
func (s *SQLite) Touch(ctx context.Context, network string, seen map[string]time.Time) error {
	if len(seen) == 0 {
		return nil
	}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, `UPDATE devices SET last_seen = $3 WHERE network_id = $1 AND id = $2 AND last_seen < $3`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for id, at := range seen {
			if _, err := stmt.ExecContext(ctx, network, id, millis(at)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note last seen: %w", err)
	}
	return nil
}

// PruneTombstones implements [Store].
func (s *SQLite) PruneTombstones(ctx context.Context, network string, keep int) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		var newest int64 // of those that go
		err := tx.QueryRowContext(ctx, `SELECT revision FROM tombstones WHERE network_id = $1 ORDER BY revision DESC LIMIT 1 OFFSET $2`, network, keep).Scan(&newest)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM tombstones WHERE network_id = $1 AND revision <= $2`, network, newest); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE networks SET pruned_revision = $2 WHERE id = $1 AND pruned_revision < $2`, network, newest)
		return err
	})
	if err != nil {
		return fmt.Errorf("prune tombstones: %w", err)
	}
	return nil
}
