package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"nexd/internal/logkey"
	"nexd/key"
)

// Deletion is what stays behind when a device goes.
type Deletion struct {
	// Rest is how long its address is kept from others.
	Rest time.Time
	// Deny is the latest that a relay credential of the device may expire.
	Deny time.Time
}

// deny notes that a key lost its membership. Until grows with each entry of a
// key, so that what was signed for it between two of them can be told apart.
func deny(ctx context.Context, tx *sql.Tx, network, pub string, until time.Time) error {
	if until.IsZero() {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO denials (network_id, public_key, until, position)
		VALUES ($1, $2, $3, (SELECT COALESCE(MAX(position), 0) + 1 FROM denials))
		ON CONFLICT (network_id, public_key) DO UPDATE SET position = excluded.position,
		until = CASE WHEN excluded.until > denials.until THEN excluded.until ELSE denials.until + 1000 END`,
		network, pub, until.Unix()*1000)
	return err
}

// Denials implements [Store].
func (s *SQLite) Denials(ctx context.Context, since uint64, limit int) ([]Denial, error) {
	if since > math.MaxInt64 {
		since = math.MaxInt64
	}
	rows, err := s.read.QueryContext(ctx, `SELECT network_id, public_key, until, position FROM denials
		WHERE position > $1 ORDER BY position LIMIT $2`, int64(since), limit)
	if err != nil {
		return nil, fmt.Errorf("list denials: %w", err)
	}
	defer rows.Close()
	var out []Denial
	for rows.Next() {
		var network, pub, until, position any
		if err := rows.Scan(&network, &pub, &until, &position); err != nil {
			return nil, fmt.Errorf("list denials: %w", err)
		}
		in := reader{}
		d := Denial{Network: in.text(network), Until: in.time(until), Position: uint64(in.number(position))}
		if d.PublicKey, err = key.ParsePublic(in.text(pub)); err != nil {
			in.fail(err)
		}
		if in.err != nil {
			s.log.Error("denial left out: its record in the database is damaged", logkey.Err, in.err)
			continue
		}
		out = append(out, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list denials: %w", err)
	}
	return out, nil
}

// PruneDenials implements [Store]. The newest entry stays, so that positions
// go on from it.
func (s *SQLite) PruneDenials(ctx context.Context, before time.Time) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM denials WHERE until < $1 AND position < (SELECT MAX(position) FROM denials)`, millis(before))
		return err
	})
	if err != nil {
		return fmt.Errorf("prune denials: %w", err)
	}
	return nil
}
