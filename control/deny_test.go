package control

import (
	"context"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/key"
	"nexd/relay"
)

// Whatever was signed for a device before all of the service knew of its
// deletion is denied: also a credential of the moment in between, and one of
// before the clock was set back by an hour.
func TestDenialCoversWhatWasSigned(t *testing.T) {
	for name, signed := range map[string]time.Duration{"before": -time.Minute, "meanwhile": 5 * time.Second, "clock set back": time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := start(t, t.TempDir())
			a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
			network, now := w.svc.hub.network.ID, time.Now().Round(0)
			expires := func(at time.Time) time.Time {
				t.Helper()
				c, err := relay.ParseCredential(w.svc.relays.listFor(network, a.Device.PublicKey, at).Credential)
				if err != nil {
					t.Fatal(err)
				}
				return c.Expires
			}
			old := now.Add(signed)
			if signed == time.Hour { // signed first, by the clock that was ahead
				expires(old)
			}
			del := w.svc.deletion(now)
			had := expires(old)
			if _, _, err := w.svc.store.DeleteDevice(t.Context(), network, a.Device.ID, del, nil); err != nil {
				t.Fatal(err)
			}
			denied, err := w.svc.store.Denials(t.Context(), 0, 10)
			if err != nil || len(denied) != 1 {
				t.Fatalf("%d denials, %v", len(denied), err)
			}
			if had.After(denied[0].Until) {
				t.Errorf("a credential until %s is not denied: only those until %s are", had, denied[0].Until)
			}
			if most := now.Add(relay.MaxLifetime); !denied[0].Until.Before(most) {
				t.Errorf("denied until %s: one of after a new join would be no credential to relays", denied[0].Until)
			}
			w.svc.hub.sync(t.Context())
			if again := expires(now.Add(time.Second)); !again.After(denied[0].Until) {
				t.Errorf("after a new join the credential, until %s, is denied until %s", again, denied[0].Until)
			}
		})
	}
}

// A request to leave that was let in with the credential of before does not
// delete the device that has taken the place meanwhile.
func TestLateLeaveDeletesNobodyElse(t *testing.T) {
	w := start(t, t.TempDir())
	secret := w.regKey(controlapi.RegKeyRequest{Reclaim: true})
	a := w.join(wish(secret, "a"))
	before, err := w.svc.store.Authenticate(t.Context(), store.HashOf(a.Credential))
	if err != nil {
		t.Fatal(err)
	}
	b := w.join(wish(secret, "a"))
	if a.Device.ID != b.Device.ID {
		t.Fatal("not reclaimed")
	}
	if _, err := w.svc.leave(context.WithValue(t.Context(), deviceKey{}, before), nil); err == nil {
		t.Error("a device that lost its place left it")
	} else {
		w.refused(w.svc.refusal("leave", err), controlapi.CodeUnauthorized)
	}
	if _, err := w.svc.store.Authenticate(t.Context(), store.HashOf(b.Credential)); err != nil {
		t.Errorf("the device that has the place: %v", err)
	}
}

// deletesNew is a store in which a relay is deleted as soon as it has joined.
type deletesNew struct {
	store.Store
	then func(id string)
}

func (s deletesNew) JoinRelay(ctx context.Context, j store.RelayJoin) (store.Relay, error) {
	r, err := s.Store.JoinRelay(ctx, j)
	if err == nil {
		s.then(r.ID)
	}
	return r, err
}

// A relay that is deleted while it joins leaves nothing behind: it would be
// listed until the service restarts, and could not be deleted.
func TestRelayDeletedWhileItJoins(t *testing.T) {
	svc, err := New(testConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Close()
	k := store.RegKey{ID: store.NewID("key"), Role: controlapi.RoleRelay, Created: time.Now()}
	if err := svc.store.CreateRegKey(t.Context(), svc.hub.network.ID, k, store.HashOf("secret")); err != nil {
		t.Fatal(err)
	}
	private := key.NewPrivate()
	r := controlapi.RelayJoinRequest{
		RegKey: "secret", Name: "eu", PublicKey: private.Public(), RelayAddress: controlapi.RelayAddress{UDP: []string{"eu.example.org:3478"}},
	}
	c := svc.challenger.challenge(time.Now())
	r.Token = c.Token
	proof, err := private.Proof(c.ServerKey, controlapi.RelayProofLabel, r.Transcript())
	if err != nil {
		t.Fatal(err)
	}
	r.Proof = proof[:]
	svc.store = deletesNew{svc.store, func(id string) {
		if _, err := svc.deleteRelay(t.Context(), &relayPathIn{Relay: id}); err != nil {
			t.Error(err)
		}
	}}
	if _, _, err := svc.admitRelay(t.Context(), r); err == nil {
		t.Error("a relay that is deleted has joined")
	}
	if all := svc.relays.infos(nil, time.Now()); len(all) != 1 {
		t.Errorf("%d relays, want the service's own alone", len(all))
	}
}
