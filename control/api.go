package control

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"nexd/control/store"
	"nexd/controlapi"
)

// Largest bodies, in bytes.
const (
	maxJoinBody   = 8 << 10
	maxSignalBody = 8 << 10
	maxHomesBody  = 1 << 10
	maxAdminBody  = 32 << 10
	maxAnyBody    = 64 << 10
)

// newAPI registers every operation on mux and describes it in /openapi.json.
func (s *Service) newAPI(mux *http.ServeMux) huma.API {
	cfg := huma.DefaultConfig("nexd control service", s.cfg.Version)
	cfg.CreateHooks = nil // they would add "$schema" to every answer
	cfg.DocsPath, cfg.SchemasPath = "", ""
	cfg.Info.Description = "Membership and rendezvous of a mesh. Refusals are application/problem+json (RFC 9457) with a stable code."
	cfg.Servers = []*huma.Server{{URL: s.url}}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		schemeDevice: {Type: "http", Scheme: "bearer", Description: "credential a device got when it joined"},
		schemeRelay:  {Type: "http", Scheme: "bearer", Description: "credential a relay got when it joined"},
		schemeAdmin:  {Type: "http", Scheme: "bearer", Description: "token in admin.json"},
	}
	api := humago.New(mux, cfg)

	anyone, joining := operation{}, operation{before: s.limitJoins}
	device, admin := operation{scheme: schemeDevice, before: s.requireDevice}, operation{scheme: schemeAdmin, before: s.requireAdmin}
	station := operation{scheme: schemeRelay, before: s.requireRelay}
	huma.Register(api, joining.of("challenge", http.MethodPost, "/v1/challenge", "Ask for a challenge to answer in a join", 0), s.challenge)
	huma.Register(api, joining.of("join", http.MethodPost, "/v1/join", "Become a member", maxJoinBody), s.join)

	watch := device.of("watch", http.MethodGet, "/v1/watch", "Follow the network, one event per line", 0)
	watch.Responses = map[string]*huma.Response{"200": {
		Description: "events until either side ends the stream",
		Content: map[string]*huma.MediaType{"application/x-ndjson": {
			Schema: api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[controlapi.Event](), true, "Event"),
		}},
	}}
	huma.Register(api, watch, s.watch)
	huma.Register(api, device.of("signal", http.MethodPost, "/v1/signals", "Pass a sealed message to a connected member", maxSignalBody), s.signal)
	huma.Register(api, device.of("set-homes", http.MethodPut, "/v1/self/relays", "Say which relays the device keeps sessions with", maxHomesBody), s.setHomes)
	huma.Register(api, device.of("leave", http.MethodDelete, "/v1/self", "Leave the network", 0), s.leave)

	huma.Register(api, admin.of("create-reg-key", http.MethodPost, "/v1/reg-keys", "Make a registration key", maxAdminBody), s.createRegKey)
	huma.Register(api, admin.of("list-reg-keys", http.MethodGet, "/v1/reg-keys", "List registration keys", 0), s.listRegKeys)
	huma.Register(api, admin.of("delete-reg-key", http.MethodDelete, "/v1/reg-keys/{id}", "Delete a registration key", 0), s.deleteRegKey)
	huma.Register(api, admin.of("list-devices", http.MethodGet, "/v1/devices", "List devices", 0), s.listDevices)
	huma.Register(api, admin.of("show-device", http.MethodGet, "/v1/devices/{device}", "Show a device", 0), s.showDevice)
	huma.Register(api, admin.of("update-device", http.MethodPatch, "/v1/devices/{device}", "Change a device", maxAdminBody), s.updateDevice)
	huma.Register(api, admin.of("delete-device", http.MethodDelete, "/v1/devices/{device}", "Delete a device", 0), s.deleteDevice)

	huma.Register(api, joining.of("join-relay", http.MethodPost, "/v1/relays", "Become a relay of the service", maxJoinBody), s.joinRelay)
	huma.Register(api, station.of("relay-heartbeat", http.MethodPut, "/v1/relays/self", "Report as a relay", maxJoinBody), s.heartbeat)
	huma.Register(api, admin.of("list-relays", http.MethodGet, "/v1/relays", "List relays", 0), s.listRelays)
	huma.Register(api, admin.of("delete-relay", http.MethodDelete, "/v1/relays/{relay}", "Delete a relay", 0), s.deleteRelay)

	huma.Register(api, anyone.of("healthz", http.MethodGet, "/healthz", "Is the process alive", 0), s.healthz)
	huma.Register(api, anyone.of("readyz", http.MethodGet, "/readyz", "Can the service do its work", 0), s.readyz)
	return api
}

const (
	schemeDevice = "device"
	schemeRelay  = "relay"
	schemeAdmin  = "admin"
)

// operation is what operations of one kind of caller share.
type operation struct {
	scheme string                                 // "" asks for no token
	before func(huma.Context, func(huma.Context)) // comes before the body is read
}

func (o operation) of(id, method, path, summary string, maxBody int64) huma.Operation {
	op := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: maxBody}
	if method == http.MethodDelete || id == "set-homes" {
		op.DefaultStatus = http.StatusNoContent
	}
	if o.scheme != "" {
		op.Security = []map[string][]string{{o.scheme: {}}}
	}
	if o.before != nil {
		op.Middlewares = huma.Middlewares{o.before}
	}
	return op
}

// limitJoins holds back those who are not members yet.
func (s *Service) limitJoins(hc huma.Context, next func(huma.Context)) {
	wait := s.joins.take(remoteFrom(hc.Context()), time.Now())
	if wait == 0 {
		next(hc)
		return
	}
	s.metrics.limited.WithLabelValues(hc.Operation().OperationID).Inc()
	p, after := rateLimited(wait)
	hc.SetHeader("Retry-After", after)
	_, w := humago.Unwrap(hc)
	writeProblem(w, p)
}

type deviceKey struct{}

// requireDevice lets a request pass that carries a member's credential.
func (s *Service) requireDevice(hc huma.Context, next func(huma.Context)) {
	_, w := humago.Unwrap(hc)
	token, ok := bearer(hc)
	if !ok {
		refuseBearer(w, "this needs the credential of a device")
		return
	}
	d, err := s.store.Authenticate(hc.Context(), store.HashOf(token))
	switch {
	case errors.Is(err, store.ErrNotFound):
		refuseBearer(w, "the credential is unknown: the device was deleted, or joined again elsewhere")
	case err != nil:
		writeProblem(w, s.internal("authenticate", err))
	case d.Network != s.hub.network.ID:
		refuseBearer(w, "the device belongs to a network this service does not serve")
	default:
		next(huma.WithValue(hc, deviceKey{}, d))
	}
}

func deviceFrom(ctx context.Context) store.Device {
	d, _ := ctx.Value(deviceKey{}).(store.Device)
	return d
}

// requireAdmin lets a request pass that carries the administrator's token.
func (s *Service) requireAdmin(hc huma.Context, next func(huma.Context)) {
	token, ok := bearer(hc)
	if !ok || !s.isAdmin(token) {
		_, w := humago.Unwrap(hc)
		refuseBearer(w, "this needs the administrator's token, which is in the service's admin.json")
		return
	}
	next(hc)
}

func bearer(hc huma.Context) (string, bool) {
	scheme, token, ok := strings.Cut(hc.Header("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != "" && len(token) <= 256
}

func refuseBearer(w http.ResponseWriter, detail string) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	writeProblem(w, unauthorized(detail))
}
