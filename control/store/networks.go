package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// NewID returns a random id with a kind in front of it. The underscore keeps
// ids apart from device names.
func NewID(kind string) string {
	var b [15]byte
	rand.Read(b[:])
	return kind + "_" + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// EnsureNetwork implements [Store].
func (s *SQLite) EnsureNetwork(ctx context.Context, name, domain string, v4, v6 netip.Prefix) (Network, error) {
	var n Network
	err := s.tx(ctx, func(tx *sql.Tx) error {
		var id string
		err := tx.QueryRowContext(ctx, `SELECT id FROM networks WHERE name = $1`, name).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			id = NewID("net")
			_, err = tx.ExecContext(ctx, `INSERT INTO networks (id, name, domain, v4, v6, revision, pruned_revision, next_v4)
				VALUES ($1, $2, $3, $4, $5, 0, 0, 0)`, id, name, domain, v4.String(), v6.String())
		}
		if err != nil {
			return err
		}
		if n, err = network(ctx, tx, id); err != nil {
			return err
		}
		if n.V4 == v4 {
			return nil
		}
		return changeRange(ctx, tx, &n, v4)
	})
	if err != nil {
		return Network{}, fmt.Errorf("network %s: %w", name, err)
	}
	return n, nil
}

// changeRange gives n another range. Streams that resume get a snapshot: the
// range is not part of a delta.
func changeRange(ctx context.Context, tx *sql.Tx, n *Network, v4 netip.Prefix) error {
	first, last := usable(v4)
	const outside = ` FROM devices WHERE network_id = $1 AND NOT (v4 BETWEEN $2 AND $3)`
	e := &RangeError{Old: n.V4, V4: v4}
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*)`+outside, n.ID, first, last).Scan(&e.Outside); err != nil {
		return err
	}
	if e.Outside > 0 {
		var r reader
		var name, addr any
		if err := tx.QueryRowContext(ctx, `SELECT name, v4`+outside+` ORDER BY name LIMIT 1`, n.ID, first, last).Scan(&name, &addr); err != nil {
			return err
		}
		e.Name, e.Addr = r.text(name), r.v4(addr)
		return e
	}
	n.V4 = v4
	n.Revision++
	_, err := tx.ExecContext(ctx, `UPDATE networks SET v4 = $2, next_v4 = 0, revision = $3, pruned_revision = $3 WHERE id = $1`,
		n.ID, v4.String(), int64(n.Revision))
	return err
}

// Network implements [Store].
func (s *SQLite) Network(ctx context.Context, id string) (Network, error) {
	return network(ctx, s.read, id)
}

// SkipRevisions implements [Store].
func (s *SQLite) SkipRevisions(ctx context.Context, network string, to uint64) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE networks SET revision = $2 WHERE id = $1 AND revision < $2`, network, int64(min(to, math.MaxInt64)))
		return err
	})
	if err != nil {
		return fmt.Errorf("skip revisions of network %s: %w", network, err)
	}
	return nil
}

func network(ctx context.Context, q querier, id string) (Network, error) {
	var n Network
	var v4, v6 string
	var revision int64
	err := q.QueryRowContext(ctx, `SELECT id, name, domain, v4, v6, revision FROM networks WHERE id = $1`, id).
		Scan(&n.ID, &n.Name, &n.Domain, &v4, &v6, &revision)
	if errors.Is(err, sql.ErrNoRows) {
		return Network{}, fmt.Errorf("network %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Network{}, err
	}
	n.Revision = uint64(revision)
	if n.V4, err = netip.ParsePrefix(v4); err != nil {
		return Network{}, &damagedError{id: id, err: err}
	}
	if n.V6, err = netip.ParsePrefix(v6); err != nil {
		return Network{}, &damagedError{id: id, err: err}
	}
	return n, nil
}

// bump raises the network's revision within the transaction of a visible change.
func bump(ctx context.Context, tx *sql.Tx, network string) (int64, error) {
	var revision int64
	err := tx.QueryRowContext(ctx, `UPDATE networks SET revision = revision + 1 WHERE id = $1 RETURNING revision`, network).Scan(&revision)
	if err != nil {
		return 0, fmt.Errorf("raise revision: %w", err)
	}
	return revision, nil
}
