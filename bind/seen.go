package bind

import (
	"bytes"
	"sync"
)

// seenSlots is how many initiations are remembered.
const seenSlots = 256

// seen remembers the initiations WireGuard got, so that it does not get copies
// that come by another way at once: its workers would answer both, and the
// session of the one answer would take the place of the other's.
type seen struct {
	mu    sync.Mutex // guards the field below
	slots [seenSlots]struct {
		id [16]byte // of the ephemeral key
		at int64
	}
}

// copied reports whether an initiation is a copy of one that was passed on
// less than 100 ms ago. A later one is a repeat, and WireGuard's to judge: it
// may have had no room for the first.
func (s *seen) copied(initiation []byte, now int64) bool {
	if len(initiation) != sizeInitiation {
		return false
	}
	id := initiation[8:24]
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := &s.slots[id[0]]
	if slot.at != 0 && now-slot.at < int64(confirmGap) && bytes.Equal(slot.id[:], id) {
		return true
	}
	slot.at = now
	copy(slot.id[:], id)
	return false
}
