package controlclienttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"nexd/controlapi"
)

// token is the challenge every fake hands out; what matters is the proof.
const token = "fake-challenge"

func (f *Fake) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/challenge", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, controlapi.Challenge{ServerKey: f.server.Public(), Token: token})
	})
	mux.HandleFunc("POST /v1/join", f.join)
	mux.HandleFunc("GET /v1/watch", f.device(f.watch))
	mux.HandleFunc("POST /v1/signals", f.device(f.signal))
	mux.HandleFunc("DELETE /v1/self", f.device(func(w http.ResponseWriter, _ *http.Request, id string) {
		f.Remove(id)
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("POST /v1/reg-keys", f.admin(f.createRegKey))
	mux.HandleFunc("GET /v1/reg-keys", f.admin(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, controlapi.RegKeyList{RegKeys: slices.Clone(f.network.regKeys)})
	}))
	mux.HandleFunc("DELETE /v1/reg-keys/{id}", f.admin(f.deleteRegKey))
	mux.HandleFunc("GET /v1/devices", f.admin(func(w http.ResponseWriter, _ *http.Request) {
		var list controlapi.DeviceList
		for _, d := range f.network.sorted() {
			list.Devices = append(list.Devices, f.describe(d))
		}
		reply(w, list)
	}))
	mux.HandleFunc("GET /v1/devices/{ref}", f.admin(f.showDevice))
	mux.HandleFunc("PATCH /v1/devices/{ref}", f.admin(f.updateDevice))
	mux.HandleFunc("DELETE /v1/devices/{ref}", func(w http.ResponseWriter, r *http.Request) {
		var id string
		f.admin(func(w http.ResponseWriter, r *http.Request) {
			if d, ok := f.network.find(r.PathValue("ref")); ok {
				id = d.ID
				return
			}
			notFound(w)
		})(w, r)
		if id != "" { // Remove takes the lock itself
			f.Remove(id)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	f.relayRoutes(mux)
	return mux
}

func (f *Fake) join(w http.ResponseWriter, r *http.Request) {
	var req controlapi.JoinRequest
	if !read(w, r, &req) {
		return
	}
	switch {
	case req.RegKey == RelaySecret:
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeKeyRole, Detail: "the registration key is for relays"})
		return
	case req.RegKey != RegSecret:
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeKeyUnknown, Detail: "no such registration key", Hint: "make one with nexctl reg-key create"})
		return
	case req.Token != token:
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeChallenge, Detail: "the challenge has expired"})
		return
	case !f.server.VerifyProof(req.PublicKey, controlapi.ProofLabel, req.Transcript(), req.Proof):
		Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeProof, Detail: "possession of the key is not proved"})
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, refused := f.network.enroll(req)
	if refused != nil {
		Refuse(w, *refused)
		return
	}
	d.Ephemeral = req.Ephemeral
	f.put(d)
	credential := fmt.Sprintf("credential-%s-%d", d.ID, f.network.revision)
	f.network.holders[credential] = d.ID
	reply(w, controlapi.JoinResponse{Device: d, Network: f.network.info, Credential: credential})
}

func (f *Fake) signal(w http.ResponseWriter, r *http.Request, id string) {
	var sig controlapi.Signal
	if !read(w, r, &sig) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var result controlapi.SignalResult
	out := encode(controlapi.Event{Type: controlapi.EventSignal, Signal: &controlapi.Signal{From: f.network.devices[id].PublicKey, Payload: sig.Payload}})
	for s := range f.streams {
		if s.public == sig.To {
			f.send(s, out)
			result.Delivered = true
		}
	}
	reply(w, result)
}

func (f *Fake) createRegKey(w http.ResponseWriter, r *http.Request) {
	var req controlapi.RegKeyRequest
	if !read(w, r, &req) {
		return
	}
	info := controlapi.RegKeyInfo{
		ID: fmt.Sprintf("key-%d", len(f.network.regKeys)+1), Description: req.Description, Role: req.Role, SingleUse: req.SingleUse,
		Ephemeral: req.Ephemeral, Reclaim: req.Reclaim, Tags: req.Tags, Created: time.Now().UTC().Truncate(time.Second),
	}
	f.network.regKeys = append(f.network.regKeys, info)
	k := f.RegKey()
	if req.Role == controlapi.RoleRelay {
		k = f.RelayKey()
	}
	reply(w, controlapi.RegKeyCreated{RegKeyInfo: info, Key: k.String()})
}

func (f *Fake) deleteRegKey(w http.ResponseWriter, r *http.Request) {
	before := len(f.network.regKeys)
	f.network.regKeys = slices.DeleteFunc(f.network.regKeys, func(k controlapi.RegKeyInfo) bool { return k.ID == r.PathValue("id") })
	if len(f.network.regKeys) == before {
		notFound(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *Fake) showDevice(w http.ResponseWriter, r *http.Request) {
	if d, ok := f.network.find(r.PathValue("ref")); ok {
		reply(w, f.describe(d))
		return
	}
	notFound(w)
}

func (f *Fake) updateDevice(w http.ResponseWriter, r *http.Request) {
	var change controlapi.DeviceUpdate
	if !read(w, r, &change) {
		return
	}
	d, ok := f.network.find(r.PathValue("ref"))
	if !ok {
		notFound(w)
		return
	}
	if change.Name != nil {
		d.Name = *change.Name
	}
	if change.Tags != nil {
		d.Tags = *change.Tags
	}
	f.put(d)
	reply(w, f.describe(d))
}

// describe is a device as an administrator sees it; mu is held.
func (f *Fake) describe(d controlapi.Device) controlapi.DeviceInfo {
	info := controlapi.DeviceInfo{Device: d}
	for s := range f.streams {
		info.Connected = info.Connected || s.device == d.ID
	}
	return info
}

// device admits the holders of credentials.
func (f *Fake) device(h func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		id, ok := f.network.holders[bearer(r)]
		f.mu.Unlock()
		if !ok {
			Refuse(w, controlapi.Problem{Status: 401, Code: controlapi.CodeUnauthorized, Detail: "unknown credential", Hint: "join again"})
			return
		}
		h(w, r, id)
	}
}

// admin admits the administrator; h runs with mu held.
func (f *Fake) admin(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if bearer(r) != AdminToken {
			Refuse(w, controlapi.Problem{Status: 401, Code: controlapi.CodeUnauthorized, Detail: "not an administrator's token"})
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		h(w, r)
	}
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(into); err != nil {
		Refuse(w, controlapi.Problem{Status: 400, Code: controlapi.CodeInvalid, Detail: err.Error()})
		return false
	}
	return true
}

func notFound(w http.ResponseWriter) {
	Refuse(w, controlapi.Problem{Status: 404, Code: controlapi.CodeNotFound, Detail: "no such thing"})
}
