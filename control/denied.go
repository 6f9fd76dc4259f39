package control

import (
	"context"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/relay"
)

// A device that is deleted, or whose place another key takes, still holds relay
// credentials. Each of these keys is noted in the store with the change that
// ended its membership; from there the service's own relay learns of it at
// once, and stand-alone ones with their next heartbeat.

// Entries read or told at once.
const maxDenied = 4096

// deletion is what stays behind of a device that is deleted now.
func (s *Service) deletion(now time.Time) store.Deletion {
	return store.Deletion{Rest: now.Add(s.cfg.Quarantine), Deny: s.relays.latest(now)}
}

// deletionTakes is how long after the time of its deletion a device's stream may
// still be given a credential: a request has that time. Credentials are signed
// for that much less than credentialLife, so that the denial covers them.
const deletionTakes = writeTimeout

// latest is by when all credentials expire that are or will be signed for a
// device that is deleted now. The clock may have been ahead when one was signed;
// by days it is not followed, since relays refuse what is valid for too long.
func (r *relays) latest(now time.Time) time.Time {
	const most = (relay.MaxLifetime - credentialLife) / 2
	r.mu.Lock()
	furthest := r.furthest
	r.mu.Unlock()
	if ahead := furthest.Sub(now.Round(0)); ahead > 0 {
		now = now.Add(min(ahead, most))
	}
	return now.Add(credentialLife)
}

// follow takes in what was denied since it was called last, and ends those
// devices' sessions here. One goroutine calls it.
func (r *relays) follow(ctx context.Context) error {
	for {
		r.mu.Lock()
		since := r.position
		r.mu.Unlock()
		list, err := r.store.Denials(ctx, since, maxDenied)
		if err != nil || len(list) == 0 {
			return err
		}
		r.mu.Lock()
		for _, d := range list {
			r.denied[deniedKey{d.Network, d.PublicKey}] = d.Until
			r.position = d.Position
		}
		r.mu.Unlock()
		for _, d := range list {
			r.own.server.Deny(relay.NetworkOf(d.Network), d.PublicKey, d.Until)
		}
	}
}

// answer is what a stand-alone relay that knows denials up to since is told.
func (r *relays) answer(ctx context.Context, since uint64) (controlapi.RelayHeartbeatAnswer, error) {
	out := controlapi.RelayHeartbeatAnswer{Issuers: r.issuers(), Denied: []controlapi.RelayDenied{}}
	r.mu.Lock()
	newest := r.position
	r.mu.Unlock()
	if since > newest {
		since = 0 // of another database
	}
	list, err := r.store.Denials(ctx, since, maxDenied)
	if err != nil {
		return out, err
	}
	out.Next, out.More = since, len(list) == maxDenied
	for _, d := range list {
		network := relay.NetworkOf(d.Network)
		out.Denied = append(out.Denied, controlapi.RelayDenied{Network: network[:], Device: d.PublicKey, Until: utc(d.Until)})
		out.Next = d.Position
	}
	return out, nil
}

// forget drops the denials of credentials that are over.
func (r *relays) forget(ctx context.Context, now time.Time) {
	over := now.Add(-denialKept)
	r.mu.Lock()
	for k, until := range r.denied {
		if until.Before(over) {
			delete(r.denied, k)
		}
	}
	r.mu.Unlock()
	if err := r.store.PruneDenials(ctx, over); err != nil {
		r.log.Error("old denials not forgotten", logkey.Err, err)
	}
}
