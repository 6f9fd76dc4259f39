package control

import (
	"context"
	"time"

	"nexd/control/store"
	"nexd/internal/logkey"
)

// Ephemeral devices are members as long as they have a stream. Without one
// they are deleted when a lease is over:
//
//	after their last stream ended       Lease
//	after joining, before any stream    FirstLease: the device may be slow to start
//
// Leases begin anew when the service starts; the time it was away counts
// against nobody.

// housekeeping runs until ctx ends: leases, last-seen times, old tombstones.
func (s *Service) housekeeping(ctx context.Context) {
	leases := time.NewTicker(min(max(s.cfg.Lease/4, 50*time.Millisecond), 5*time.Second))
	defer leases.Stop()
	flush := time.NewTicker(5 * time.Second)
	defer flush.Stop()
	prune := time.NewTicker(time.Hour)
	defer prune.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-leases.C:
			s.expire(ctx, now)
		case <-flush.C:
			s.flushSeen(ctx)
		case <-prune.C:
			if err := s.store.PruneTombstones(ctx, s.hub.network.ID, s.cfg.KeepTombstones); err != nil {
				s.log.Error("old deletions not forgotten", logkey.Err, err)
			}
			s.relays.forget(ctx, time.Now())
		}
	}
}

// expire deletes the ephemeral devices whose lease is over.
func (s *Service) expire(ctx context.Context, now time.Time) {
	deleted := 0
	for _, id := range s.hub.expired(now, s.cfg.Lease, s.cfg.FirstLease) {
		d, ok, err := s.store.DeleteDevice(ctx, s.hub.network.ID, id, s.deletion(now), func(d store.Device) bool {
			// Looked at again in the transaction: it may have come back.
			return !d.Ephemeral || !s.hub.leaseOver(d, now, s.cfg.Lease, s.cfg.FirstLease)
		})
		if err != nil {
			s.log.Error("ephemeral device not deleted", logkey.Device, id, logkey.Err, err)
			continue
		}
		if ok {
			deleted++
			s.metrics.leases.Inc()
			s.log.Info("device deleted", logkey.Device, d.Name, logID, d.ID, logkey.Reason, "lease of an ephemeral device is over")
		}
	}
	if deleted > 0 {
		s.hub.sync(ctx)
	}
}

// flushSeen writes the last-seen times that came up since the last call.
func (s *Service) flushSeen(ctx context.Context) {
	seen := s.hub.takeSeen()
	if err := s.store.Touch(ctx, s.hub.network.ID, seen); err != nil {
		s.log.Error("last-seen times not written", logkey.Count, len(seen), logkey.Err, err)
	}
}

// expired returns the ephemeral devices whose lease looks over.
func (h *hub) expired(now time.Time, lease, first time.Duration) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for id, m := range h.members {
		if m.device.Ephemeral && h.streams[id] == nil && now.After(h.deadline(m.joined, m.lastStream, lease, first)) {
			out = append(out, id)
		}
	}
	return out
}

// leaseOver reports whether that of d, read from the store just now, is.
func (h *hub) leaseOver(d store.Device, now time.Time, lease, first time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := d.LastSeen
	if m := h.members[d.ID]; m != nil && m.lastStream.After(last) {
		last = m.lastStream
	}
	return h.streams[d.ID] == nil && now.After(h.deadline(d.Joined, last, lease, first))
}

func (h *hub) deadline(joined, lastStream time.Time, lease, first time.Duration) time.Time {
	if joined.After(lastStream) {
		return later(joined, h.started).Add(max(first, lease))
	}
	return later(lastStream, h.started).Add(lease)
}

func (h *hub) takeSeen() map[string]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	h.seen = map[string]time.Time{}
	return seen
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
