package controlclienttest

import (
	"cmp"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/key"
	"nexd/relay"
)

// RelaySecret is that of the registration key for relays.
const RelaySecret = "fake-relay-secret"

// relays is what a fake knows of relays; Fake.mu guards it. Streams are told of
// them as soon as there was one.
type relays struct {
	issuer  ed25519.PrivateKey
	told    bool
	fixed   []controlapi.Relay // SetRelays
	joined  map[string]*station
	holders map[string]string // credential -> relay id
	made    int
	denied  []controlapi.RelayDenied // the nth has position n+1
}

// station is a relay that joined.
type station struct {
	controlapi.RelayInfo
	reported bool
}

func newRelays() relays {
	_, issuer, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	return relays{issuer: issuer, joined: map[string]*station{}, holders: map[string]string{}}
}

// Issuer is the key that signs relay credentials; the network's id is "net".
func (f *Fake) Issuer() ed25519.PublicKey { return f.relays.issuer.Public().(ed25519.PublicKey) }

// RelayKey is a registration key for relays that never ends.
func (f *Fake) RelayKey() controlapi.RegKey {
	k := f.RegKey()
	k.Secret = RelaySecret
	return k
}

// SetRelays makes list the relays devices are told of, besides those that
// joined, and tells every stream.
func (f *Fake) SetRelays(list ...controlapi.Relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays.fixed = slices.Clone(list)
	f.tellRelays()
}

// tellRelays sends the list to every stream; mu is held.
func (f *Fake) tellRelays() {
	f.relays.told = true
	for s := range f.streams {
		f.send(s, encode(f.relays.event(s.public)))
	}
}

// event is the list as a device is told it.
func (r *relays) event(device key.Public) controlapi.Event {
	list := slices.Clone(r.fixed)
	for _, one := range r.sorted() {
		if one.reported && !one.Draining {
			list = append(list, one.Relay)
		}
	}
	c := relay.Credential{Device: device, Network: relay.NetworkOf("net"), Expires: time.Now().Add(72 * time.Hour)}
	return controlapi.Event{Type: controlapi.EventRelays, Relays: &controlapi.RelayList{Relays: list, Credential: c.Sign(r.issuer)}}
}

func (r *relays) sorted() []*station {
	out := make([]*station, 0, len(r.joined))
	for _, one := range r.joined {
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b *station) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (r *relays) known(id string) bool {
	return r.joined[id] != nil || slices.ContainsFunc(r.fixed, func(one controlapi.Relay) bool { return one.ID == id })
}

// deny notes a device whose credentials do not count any more.
func (r *relays) deny(device key.Public) {
	network := relay.NetworkOf("net")
	r.denied = append(r.denied, controlapi.RelayDenied{
		Network: network[:], Device: device, Until: time.Now().Add(72 * time.Hour).UTC().Truncate(time.Second),
	})
}

func (f *Fake) relayRoutes(mux *http.ServeMux) {
	mux.HandleFunc("PUT /v1/self/relays", f.device(f.setHomes))
	mux.HandleFunc("POST /v1/relays", f.joinRelay)
	mux.HandleFunc("PUT /v1/relays/self", f.relayHeartbeat)
	mux.HandleFunc("GET /v1/relays", f.admin(func(w http.ResponseWriter, _ *http.Request) {
		var list controlapi.RelayInfoList
		for _, one := range f.relays.fixed {
			list.Relays = append(list.Relays, controlapi.RelayInfo{Relay: one, Embedded: true, Listed: true})
		}
		for _, one := range f.relays.sorted() {
			one.Listed = one.reported && !one.Draining
			list.Relays = append(list.Relays, one.RelayInfo)
		}
		reply(w, list)
	}))
	mux.HandleFunc("DELETE /v1/relays/{ref}", f.admin(f.deleteRelay))
}

func (f *Fake) setHomes(w http.ResponseWriter, r *http.Request, id string) {
	var homes controlapi.Homes
	if !read(w, r, &homes) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, home := range homes.Relays {
		if !f.relays.known(home) || len(homes.Relays) > controlapi.MaxHomes {
			Refuse(w, controlapi.Problem{Status: 422, Code: controlapi.CodeInvalid, Detail: fmt.Sprintf("there is no relay with the id %q", home)})
			return
		}
	}
	if d := f.network.devices[id]; !slices.Equal(d.Relays, homes.Relays) {
		d.Relays = homes.Relays
		f.put(d)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *Fake) joinRelay(w http.ResponseWriter, r *http.Request) {
	var req controlapi.RelayJoinRequest
	if !read(w, r, &req) {
		return
	}
	switch {
	case req.RegKey == RegSecret:
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeKeyRole, Detail: "the registration key is for devices"})
		return
	case req.RegKey != RelaySecret:
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeKeyUnknown, Detail: "no such registration key"})
		return
	case req.Token != token:
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeChallenge, Detail: "the challenge has expired"})
		return
	case !f.server.VerifyProof(req.PublicKey, controlapi.RelayProofLabel, req.Transcript(), req.Proof):
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeProof, Detail: "possession of the key is not proved"})
		return
	case req.Check() != nil:
		Refuse(w, controlapi.Problem{Status: 422, Code: controlapi.CodeInvalid, Detail: req.Check().Error()})
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var one *station
	for _, other := range f.relays.joined {
		switch {
		case other.PublicKey == req.PublicKey:
			one = other
		case other.Name == req.Name:
			Refuse(w, controlapi.Problem{Status: 409, Code: controlapi.CodeNameTaken, Detail: fmt.Sprintf("the name %q belongs to another relay", req.Name)})
			return
		}
	}
	f.relays.made++
	if one == nil {
		one = &station{}
		one.ID, one.Name, one.PublicKey = fmt.Sprintf("relay-%d", f.relays.made), req.Name, req.PublicKey
		one.Created = time.Now().UTC().Truncate(time.Second)
		f.relays.joined[one.ID] = one
	}
	one.UDP, one.URL, one.Pin, one.Version = req.UDP, req.URL, req.Pin, req.Version
	for credential, id := range f.relays.holders {
		if id == one.ID {
			delete(f.relays.holders, credential)
		}
	}
	credential := fmt.Sprintf("credential-%s-%d", one.ID, f.relays.made)
	f.relays.holders[credential] = one.ID
	reply(w, controlapi.RelayJoinResponse{ID: one.ID, Name: one.Name, Credential: credential, Issuers: [][]byte{f.Issuer()}})
}

func (f *Fake) relayHeartbeat(w http.ResponseWriter, r *http.Request) {
	var beat controlapi.RelayHeartbeat
	if !read(w, r, &beat) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.relays.joined[f.relays.holders[bearer(r)]]
	switch {
	case one == nil:
		Refuse(w, controlapi.Problem{Status: 401, Code: controlapi.CodeUnauthorized, Detail: "the credential is unknown"})
		return
	case beat.Check() != nil:
		Refuse(w, controlapi.Problem{Status: 422, Code: controlapi.CodeInvalid, Detail: beat.Check().Error()})
		return
	}
	before := f.relays.event(key.Public{}).Relays.Relays
	one.UDP, one.URL, one.Pin, one.Draining, one.reported = beat.UDP, beat.URL, beat.Pin, beat.Draining, true
	one.LastSeen = time.Now().UTC()
	if beat.Version != "" {
		one.Version = beat.Version
	}
	if !slices.EqualFunc(before, f.relays.event(key.Public{}).Relays.Relays, sameRelay) {
		f.tellRelays()
	}
	since := min(beat.Since, uint64(len(f.relays.denied)))
	reply(w, controlapi.RelayHeartbeatAnswer{
		Issuers: [][]byte{f.Issuer()}, Denied: append([]controlapi.RelayDenied{}, f.relays.denied[since:]...), Next: uint64(len(f.relays.denied)),
	})
}

func sameRelay(a, b controlapi.Relay) bool {
	return a.ID == b.ID && a.URL == b.URL && a.Pin == b.Pin && slices.Equal(a.UDP, b.UDP)
}

// deleteRelay runs with mu held.
func (f *Fake) deleteRelay(w http.ResponseWriter, r *http.Request) {
	for id, one := range f.relays.joined {
		if ref := r.PathValue("ref"); id == ref || one.Name == ref {
			delete(f.relays.joined, id)
			f.tellRelays()
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	notFound(w)
}
