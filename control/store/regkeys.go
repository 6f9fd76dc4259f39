package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"nexd/internal/logkey"
)

const regKeyColumns = `id, description, single_use, ephemeral, reclaim, tags, created, expires, last_used, uses, used_by, role`

// NetworkOfRegKey implements [Store].
func (s *SQLite) NetworkOfRegKey(ctx context.Context, secret Hash) (string, error) {
	var network string
	err := s.read.QueryRowContext(ctx, `SELECT network_id FROM reg_keys WHERE secret_hash = $1`, secret.text()).Scan(&network)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrKeyUnknown
	}
	return network, err
}

// CreateRegKey implements [Store].
func (s *SQLite) CreateRegKey(ctx context.Context, network string, k RegKey, secret Hash) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO reg_keys (network_id, secret_hash, `+regKeyColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, '', $11)`,
			network, secret.text(), k.ID, k.Description, k.SingleUse, k.Ephemeral, k.Reclaim, tagsText(k.Tags), millis(k.Created), millis(k.Expires), k.Role)
		return err
	})
	if err != nil {
		return fmt.Errorf("create registration key: %w", err)
	}
	return nil
}

// RegKeys implements [Store].
func (s *SQLite) RegKeys(ctx context.Context, network string) ([]RegKey, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+regKeyColumns+` FROM reg_keys WHERE network_id = $1 ORDER BY created, id`, network)
	if err != nil {
		return nil, fmt.Errorf("list registration keys: %w", err)
	}
	defer rows.Close()
	var out []RegKey
	for rows.Next() {
		k, err := scanRegKey(rows)
		if err != nil {
			s.log.Error("registration key left out: its record in the database is damaged", logkey.Err, err)
			continue
		}
		out = append(out, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list registration keys: %w", err)
	}
	return out, nil
}

// DeleteRegKey implements [Store].
func (s *SQLite) DeleteRegKey(ctx context.Context, network, id string) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM reg_keys WHERE network_id = $1 AND id = $2`, network, id)
		return oneRow(res, err)
	})
	if err != nil {
		return fmt.Errorf("delete registration key %s: %w", id, err)
	}
	return nil
}

func regKeyByHash(ctx context.Context, q querier, network string, secret Hash) (RegKey, error) {
	k, err := scanRegKey(q.QueryRowContext(ctx,
		`SELECT `+regKeyColumns+` FROM reg_keys WHERE network_id = $1 AND secret_hash = $2`, network, secret.text()))
	if errors.Is(err, sql.ErrNoRows) {
		return RegKey{}, ErrKeyUnknown
	}
	return k, err
}

func scanRegKey(row scanner) (RegKey, error) {
	var k RegKey
	var tags string
	var created, expires, lastUsed int64
	err := row.Scan(&k.ID, &k.Description, &k.SingleUse, &k.Ephemeral, &k.Reclaim, &tags, &created, &expires, &lastUsed, &k.Uses, &k.UsedBy, &k.Role)
	if err != nil {
		return RegKey{}, err
	}
	if err := json.Unmarshal([]byte(tags), &k.Tags); err != nil {
		return RegKey{}, &damagedError{id: k.ID, err: errors.New("tags")}
	}
	k.Created, k.Expires, k.LastUsed = fromMillis(created), fromMillis(expires), fromMillis(lastUsed)
	return k, nil
}

// oneRow turns "nothing changed" into ErrNotFound.
func oneRow(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}
