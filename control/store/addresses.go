package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"nexd/key"
)

// Addresses are given by next fit: the search goes on behind the address given
// last and wraps at the end of the range, so an address that was freed comes up
// again as late as the range allows. Until its rest is over it is kept for the
// key that had it and given to nobody else, even on request.

// usable returns the first and last address a device can have.
func usable(p netip.Prefix) (first, last int64) {
	base := v4Number(p.Addr())
	return base + 1, base + 1<<(32-p.Bits()) - 2
}

// pickAddress chooses the IPv4 address of a new device.
func pickAddress(ctx context.Context, tx *sql.Tx, n Network, pub key.Public, want netip.Addr, now time.Time) (int64, error) {
	if _, err := tx.ExecContext(ctx, `DELETE FROM freed_addresses WHERE network_id = $1 AND until <= $2`, n.ID, millis(now)); err != nil {
		return 0, err
	}
	if want.IsValid() {
		return wantedAddress(ctx, tx, n, pub, want)
	}
	if v4, err := formerAddress(ctx, tx, n, pub); v4 != 0 || err != nil {
		return v4, err
	}
	first, last := usable(n.V4)
	var next int64
	if err := tx.QueryRowContext(ctx, `SELECT next_v4 FROM networks WHERE id = $1`, n.ID).Scan(&next); err != nil {
		return 0, err
	}
	if next < first || next > last {
		next = first
	}
	v4, err := firstFree(ctx, tx, n.ID, next, last)
	if v4 == 0 && err == nil {
		v4, err = firstFree(ctx, tx, n.ID, first, next-1)
	}
	switch {
	case err != nil:
		return 0, err
	case v4 == 0:
		return 0, ErrExhausted
	}
	_, err = tx.ExecContext(ctx, `UPDATE networks SET next_v4 = $2 WHERE id = $1`, n.ID, v4+1)
	return v4, err
}

func wantedAddress(ctx context.Context, tx *sql.Tx, n Network, pub key.Public, want netip.Addr) (int64, error) {
	refuse := func(p AddressProblem) (int64, error) {
		return 0, &AddressError{Addr: want, Problem: p, Range: n.V4}
	}
	if !want.Is4() || !n.V4.Contains(want) {
		return refuse(AddressOutside)
	}
	v4 := v4Number(want)
	if first, last := usable(n.V4); v4 < first || v4 > last {
		return refuse(AddressReserved)
	}
	var found int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM devices WHERE network_id = $1 AND v4 = $2`, n.ID, v4).Scan(&found)
	if err != nil {
		return 0, err
	}
	if found > 0 {
		return refuse(AddressTaken)
	}
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM freed_addresses WHERE network_id = $1 AND v4 = $2 AND public_key <> $3`,
		n.ID, v4, pub.String()).Scan(&found)
	if err != nil {
		return 0, err
	}
	if found > 0 {
		return refuse(AddressResting)
	}
	return v4, nil
}

// formerAddress returns an address that rests for this key, or 0.
func formerAddress(ctx context.Context, tx *sql.Tx, n Network, pub key.Public) (int64, error) {
	first, last := usable(n.V4)
	var v4 int64
	err := tx.QueryRowContext(ctx, `SELECT v4 FROM freed_addresses f WHERE network_id = $1 AND public_key = $2 AND v4 BETWEEN $3 AND $4
		AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.network_id = f.network_id AND d.v4 = f.v4) ORDER BY until DESC LIMIT 1`,
		n.ID, pub.String(), first, last).Scan(&v4)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return v4, err
}

// firstFree returns the lowest address from lo to hi that nobody has and that
// does not rest, or 0. It reads only up to the first gap.
func firstFree(ctx context.Context, tx *sql.Tx, network string, lo, hi int64) (int64, error) {
	if lo > hi {
		return 0, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT v4 FROM devices WHERE network_id = $1 AND v4 BETWEEN $2 AND $3
		UNION SELECT v4 FROM freed_addresses WHERE network_id = $1 AND v4 BETWEEN $2 AND $3 ORDER BY 1`, network, lo, hi)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	free := lo
	for rows.Next() {
		var v any
		if err := rows.Scan(&v); err != nil {
			return 0, err
		}
		taken, ok := v.(int64)
		if !ok {
			continue // a damaged record takes no address
		}
		if taken > free {
			break
		}
		free = taken + 1
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if free > hi {
		return 0, nil
	}
	return free, nil
}

// pickV6 returns the IPv6 address that goes with v4: the network's /64 with
// the place of v4 in its range as the last 32 bits, so 100.64.0.5 is PREFIX::5.
// Where another device has that (the range once began elsewhere), it is
// PREFIX::1:V4, which only this v4 can have.
func pickV6(ctx context.Context, tx *sql.Tx, n Network, v4 int64) (netip.Addr, error) {
	b := n.V6.Addr().As16()
	binary.BigEndian.PutUint32(b[12:], uint32(v4-v4Number(n.V4.Addr())))
	v6 := netip.AddrFrom16(b)
	var found int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM devices WHERE network_id = $1 AND v6 = $2`, n.ID, v6.String()).Scan(&found)
	if err != nil || found == 0 {
		return v6, err
	}
	b[11] = 1
	binary.BigEndian.PutUint32(b[12:], uint32(v4))
	return netip.AddrFrom16(b), nil
}
