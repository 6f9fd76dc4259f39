package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"nexd/controlapi"
)

// Join implements [Store].
func (s *SQLite) Join(ctx context.Context, networkID string, j Join) (JoinResult, error) {
	var res JoinResult
	err := s.tx(ctx, func(tx *sql.Tx) error {
		n, err := network(ctx, tx, networkID)
		if err != nil {
			return err
		}
		k, err := regKeyByHash(ctx, tx, n.ID, j.Secret)
		if err != nil {
			return err
		}
		switch {
		case k.Role != controlapi.RoleDevice:
			return ErrKeyRole
		case k.expired(j.Now):
			return ErrKeyExpired
		}
		t := joining{tx: tx, network: n, key: k, want: j}
		d, kind, err := t.run(ctx)
		if err != nil {
			return err
		}
		if err := noteKeyUse(ctx, tx, n.ID, k, d.ID, kind != JoinedAgain, j.Now); err != nil {
			return err
		}
		res = JoinResult{Device: d, Network: n, Kind: kind}
		return nil
	})
	if err != nil {
		return JoinResult{}, fmt.Errorf("join: %w", err)
	}
	return res, nil
}

// joining is one join within its transaction.
type joining struct {
	tx      *sql.Tx
	network Network
	key     RegKey
	want    Join
}

// run decides who the device is: the one with this key, the one of this name
// if it may be reclaimed, or a new one.
func (t *joining) run(ctx context.Context) (Device, JoinKind, error) {
	same, err := queryDevice(ctx, t.tx, `network_id = $1 AND public_key = $2`, t.network.ID, t.want.PublicKey.String())
	if err == nil {
		d, err := t.again(ctx, same)
		return d, JoinedAgain, err
	}
	if !errors.Is(err, ErrNotFound) {
		return Device{}, 0, err
	}
	var taken int
	if err := t.tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM devices WHERE network_id = $1 AND name = $2`,
		t.network.ID, t.want.Name).Scan(&taken); err != nil {
		return Device{}, 0, err
	}
	if taken == 0 {
		d, err := t.create(ctx, t.want.Name)
		return d, JoinedNew, err
	}
	var connected bool
	if t.key.Reclaim {
		old, err := queryDevice(ctx, t.tx, `network_id = $1 AND name = $2`, t.network.ID, t.want.Name)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return Device{}, 0, err
		}
		connected = err == nil && t.want.Connected != nil && t.want.Connected(old.ID)
		if err == nil && !connected {
			d, err := t.reclaim(ctx, old)
			return d, JoinedReclaimed, err
		}
	}
	switch {
	case !t.mayUse(""):
		return Device{}, 0, ErrKeyUsed
	case t.want.NumberName:
		name, err := t.numbered(ctx)
		if err != nil {
			return Device{}, 0, err
		}
		d, err := t.create(ctx, name)
		return d, JoinedNew, err
	case connected:
		return Device{}, 0, ErrConnected
	}
	return Device{}, 0, &NameTakenError{Name: t.want.Name}
}

// mayUse reports whether the registration key admits this device; "" is a new one.
func (t *joining) mayUse(id string) bool { return t.key.admits(id, id == "") }

// admits reports whether the key is free, or bound to the one with that id.
func (k RegKey) admits(id string, fresh bool) bool {
	return !k.SingleUse || k.UsedBy == "" || !fresh && k.UsedBy == id
}

func (t *joining) ephemeral() bool { return t.want.Ephemeral || t.key.Ephemeral }

// sameAddress refuses a wish for another address than the device has.
func (t *joining) sameAddress(d Device) error {
	if t.want.RequestIP.IsValid() && t.want.RequestIP != d.V4 {
		return &AddressError{Addr: t.want.RequestIP, Problem: AddressOther, Range: t.network.V4, Has: d.V4}
	}
	return nil
}

// again renews the credential of a device that proved its key.
func (t *joining) again(ctx context.Context, d Device) (Device, error) {
	if !t.mayUse(d.ID) {
		return Device{}, ErrKeyUsed
	}
	if err := t.sameAddress(d); err != nil {
		return Device{}, err
	}
	if d.Ephemeral != t.ephemeral() {
		d.Ephemeral = t.ephemeral()
		if err := t.mark(ctx, &d); err != nil {
			return Device{}, err
		}
	}
	return d, t.update(ctx, &d)
}

// reclaim gives a device's place to another key. Its tags are those of the
// registration key: what was granted to the old key is not inherited.
func (t *joining) reclaim(ctx context.Context, d Device) (Device, error) {
	if !t.mayUse(d.ID) {
		return Device{}, ErrKeyUsed
	}
	if err := t.sameAddress(d); err != nil {
		return Device{}, err
	}
	if err := deny(ctx, t.tx, t.network.ID, d.PublicKey.String(), t.want.Deny); err != nil {
		return Device{}, err
	}
	d.PublicKey, d.Tags, d.Relays, d.Ephemeral = t.want.PublicKey, t.key.Tags, nil, t.ephemeral()
	if err := t.mark(ctx, &d); err != nil {
		return Device{}, err
	}
	return d, t.update(ctx, &d)
}

func (t *joining) create(ctx context.Context, name string) (Device, error) {
	if !t.mayUse("") {
		return Device{}, ErrKeyUsed
	}
	v4, err := pickAddress(ctx, t.tx, t.network, t.want.PublicKey, t.want.RequestIP, t.want.Now)
	if err != nil {
		return Device{}, err
	}
	v6, err := pickV6(ctx, t.tx, t.network, v4)
	if err != nil {
		return Device{}, err
	}
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM freed_addresses WHERE network_id = $1 AND v4 = $2`, t.network.ID, v4); err != nil {
		return Device{}, err
	}
	d := Device{
		ID: t.want.DeviceID, Network: t.network.ID, Name: name, PublicKey: t.want.PublicKey,
		V4: v4Addr(v4), V6: v6, Tags: t.key.Tags, Ephemeral: t.ephemeral(),
		Version: t.want.Version, OS: t.want.OS, RegKeyID: t.key.ID,
		Created: t.want.Now, Joined: t.want.Now, Credential: t.want.Credential,
	}
	if err := t.mark(ctx, &d); err != nil {
		return Device{}, err
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO devices (`+deviceColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
		d.ID, d.Network, d.Name, d.PublicKey.String(), v4, d.V6.String(), tagsText(d.Tags), d.Ephemeral, d.Credential.text(),
		d.RegKeyID, d.Version, d.OS, millis(d.Created), millis(d.Joined), millis(d.LastSeen), int64(d.Revision), listText(d.Relays))
	return d, err
}

// mark gives d the next revision.
func (t *joining) mark(ctx context.Context, d *Device) error {
	revision, err := bump(ctx, t.tx, t.network.ID)
	d.Revision = uint64(revision)
	return err
}

// update writes what a join changes in a device that exists.
func (t *joining) update(ctx context.Context, d *Device) error {
	d.Credential, d.RegKeyID, d.Joined = t.want.Credential, t.key.ID, t.want.Now
	d.Version, d.OS = t.want.Version, t.want.OS
	_, err := t.tx.ExecContext(ctx, `UPDATE devices SET public_key = $3, tags = $4, ephemeral = $5, credential_hash = $6, reg_key_id = $7,
		version = $8, os = $9, joined = $10, revision = $11, relays = $12 WHERE network_id = $1 AND id = $2`,
		d.Network, d.ID, d.PublicKey.String(), tagsText(d.Tags), d.Ephemeral, d.Credential.text(), d.RegKeyID,
		d.Version, d.OS, millis(d.Joined), int64(d.Revision), listText(d.Relays))
	return err
}

// noteKeyUse counts whom a key admitted, and binds a single-use key to its first.
func noteKeyUse(ctx context.Context, tx *sql.Tx, network string, k RegKey, id string, fresh bool, now time.Time) error {
	more := 0
	if fresh {
		more = 1
	}
	usedBy := k.UsedBy
	if k.SingleUse {
		usedBy = id
	}
	_, err := tx.ExecContext(ctx, `UPDATE reg_keys SET last_used = $3, uses = uses + $4, used_by = $5 WHERE network_id = $1 AND id = $2`,
		network, k.ID, millis(now), more, usedBy)
	return err
}

// numbered returns the first free of NAME-2, NAME-3, ...; a long name is cut
// so that the number fits into a DNS label.
func (t *joining) numbered(ctx context.Context) (string, error) {
	rows, err := t.tx.QueryContext(ctx, `SELECT name FROM devices WHERE network_id = $1 AND name LIKE $2`,
		t.network.ID, t.want.Name[:min(len(t.want.Name), maxName-12)]+"%")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	taken := map[string]bool{}
	for rows.Next() {
		var name any
		if err := rows.Scan(&name); err != nil {
			return "", err
		}
		if text, ok := name.(string); ok {
			taken[text] = true
		}
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	for n := 2; ; n++ { // ends: taken is finite
		suffix := "-" + strconv.Itoa(n)
		name := t.want.Name[:min(len(t.want.Name), maxName-len(suffix))] + suffix
		if !taken[name] {
			return name, nil
		}
	}
}

// maxName is the length of a DNS label.
const maxName = 63
