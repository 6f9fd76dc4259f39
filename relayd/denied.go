package relayd

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/relay"
)

// maxDenied bounds the list of devices that were deleted while a credential of
// theirs may still be valid. Beyond it those go first whose credentials end first.
const maxDenied = 50_000

// denies reports whether an entry still says something: credentials count for a
// while after their expiry.
func denies(d controlapi.RelayDenied, now time.Time) bool {
	return now.Before(d.Until.Add(relay.ClockTolerance))
}

// mergeDenied adds what a heartbeat brought to the list, the latest time of
// each device, and drops what is over. Neither list is changed.
func mergeDenied(list, fresh []controlapi.RelayDenied, now time.Time) ([]controlapi.RelayDenied, error) {
	type who struct {
		network relay.NetworkID
		device  [32]byte
	}
	at := map[who]int{}
	var out []controlapi.RelayDenied
	for _, d := range slices.Concat(list, fresh) {
		if len(d.Network) != len(relay.NetworkID{}) || d.Device.IsZero() {
			return nil, fmt.Errorf("a denied device without its key, or with a network id of %d bytes", len(d.Network))
		}
		if !denies(d, now) {
			continue
		}
		w := who{relay.NetworkID(d.Network), [32]byte(d.Device.Bytes())}
		if i, ok := at[w]; ok {
			if d.Until.After(out[i].Until) {
				out[i] = d
			}
			continue
		}
		at[w] = len(out)
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b controlapi.RelayDenied) int {
		if c := b.Until.Compare(a.Until); c != 0 {
			return c
		}
		return bytes.Compare(a.Device.Bytes(), b.Device.Bytes())
	})
	return out[:min(len(out), maxDenied)], nil
}
