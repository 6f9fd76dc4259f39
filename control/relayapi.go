package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
)

type (
	homesInput struct{ Body controlapi.Homes }

	relayJoinInput  struct{ Body controlapi.RelayJoinRequest }
	relayJoinOutput struct{ Body controlapi.RelayJoinResponse }
	heartbeatInput  struct{ Body controlapi.RelayHeartbeat }
	heartbeatOutput struct {
		Body controlapi.RelayHeartbeatAnswer
	}
	relaysOutput struct{ Body controlapi.RelayInfoList }
	relayPathIn  struct {
		Relay string `path:"relay" maxLength:"64" doc:"id or name"`
	}
)

// setHomes notes which relays a device keeps sessions with.
func (s *Service) setHomes(ctx context.Context, in *homesInput) (*struct{}, error) {
	d, ids := deviceFrom(ctx), in.Body.Relays
	if err := s.limitUpdates("homes", d.ID); err != nil {
		return nil, err
	}
	if len(ids) > controlapi.MaxHomes {
		return nil, invalid("%d relays: at most %d", len(ids), controlapi.MaxHomes)
	}
	for i, id := range ids {
		switch {
		case !s.relays.known(id):
			return nil, invalid("there is no relay with the id %q", clip(id))
		case slices.Contains(ids[:i], id):
			return nil, invalid("relay %s is there twice", id)
		}
	}
	changed, err := s.store.SetHomes(ctx, d.Network, d.ID, ids)
	if err != nil {
		return nil, s.deviceProblem(d.Name, "set relays", err)
	}
	if changed {
		s.hub.sync(ctx)
		s.log.Debug("relays of a device changed", logkey.Device, d.Name, logRelay, strings.Join(ids, " "))
	}
	return nil, nil
}

// limitUpdates holds back who changes its own record too often.
func (s *Service) limitUpdates(what, id string) error {
	return s.limit(s.updates, what, id)
}

// limit refuses what comes too often from the one with that id.
func (s *Service) limit(l *limiter[string], what, id string) error {
	wait := l.take(id, time.Now())
	if wait == 0 {
		return nil
	}
	s.metrics.limited.WithLabelValues(what).Inc()
	p, after := rateLimited(wait)
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {after}})
}

// joinRelay makes a stand-alone relay one of the service's. Devices are told of
// it when it reports for the first time.
func (s *Service) joinRelay(ctx context.Context, in *relayJoinInput) (*relayJoinOutput, error) {
	r, remote := in.Body, remoteFrom(ctx)
	one, credential, err := s.admitRelay(ctx, r)
	if err != nil {
		p := s.relayRefusal("join relay", err)
		s.log.Info("join of a relay refused", logRelay, clip(r.Name), logkey.Peer, r.PublicKey.Short(), logkey.Addr, remote, logkey.Reason, string(p.Code))
		return nil, p
	}
	s.log.Info("relay joined", logRelay, one.Name, logID, one.ID, logkey.Peer, one.PublicKey.Short(), logkey.Addr, remote, logRegKey, one.RegKeyID)
	return &relayJoinOutput{Body: controlapi.RelayJoinResponse{ID: one.ID, Name: one.Name, Credential: credential, Issuers: s.relays.issuers()}}, nil
}

func (s *Service) admitRelay(ctx context.Context, r controlapi.RelayJoinRequest) (store.Relay, string, error) {
	now := time.Now()
	if err := controlapi.CheckName(r.Name); err != nil {
		hint := "choose a name with --name"
		if clean := controlapi.CleanName(r.Name); clean != "" {
			hint = fmt.Sprintf("use --name %s", clean)
		}
		return store.Relay{}, "", problem(http.StatusUnprocessableEntity, controlapi.CodeNameInvalid, err.Error(), hint)
	}
	if r.PublicKey.IsZero() {
		return store.Relay{}, "", invalid("public_key is empty")
	}
	if err := r.Check(); err != nil {
		return store.Relay{}, "", invalid("%v", err)
	}
	if err := s.challenger.verifyRelay(r, now); err != nil {
		return store.Relay{}, "", proofProblem(err)
	}
	if r.Name == embeddedName || r.PublicKey == s.relay.entry.PublicKey {
		return store.Relay{}, "", &store.NameTakenError{Name: r.Name}
	}
	credential := newSecret()
	one, err := s.store.JoinRelay(ctx, store.RelayJoin{
		Secret: store.HashOf(r.RegKey), PublicKey: r.PublicKey, Name: r.Name, Address: r.RelayAddress, Version: printable(r.Version),
		RelayID: store.NewID("relay"), Credential: store.HashOf(credential), Now: now,
	})
	if err != nil {
		return store.Relay{}, "", err
	}
	s.relays.joined(one, now)
	// Taken in first, looked up again then: a deletion in between is seen by one
	// side or the other.
	all, err := s.store.Relays(ctx)
	if err == nil && !slices.ContainsFunc(all, func(r store.Relay) bool { return r.ID == one.ID }) {
		s.relays.removed(one.ID, now)
		return store.Relay{}, "", unauthorized("this relay was deleted while it joined")
	}
	return one, credential, nil
}

// relayRefusal is refusal, in words about relays.
func (s *Service) relayRefusal(doing string, err error) *controlapi.Problem {
	var name *store.NameTakenError
	switch {
	case errors.As(err, &name):
		return problem(http.StatusConflict, controlapi.CodeNameTaken, fmt.Sprintf("the name %q belongs to another relay", name.Name),
			"choose another with --name, or delete that relay (nexctl relay delete "+name.Name+")")
	case errors.Is(err, store.ErrKeyRole):
		return problem(http.StatusForbidden, controlapi.CodeKeyRole, "the registration key is for devices, not for relays",
			"make one for relays: nexctl reg-key create --relay")
	}
	return s.refusal(doing, err)
}

type relayKey struct{}

// requireRelay lets a request pass that carries a stand-alone relay's credential.
func (s *Service) requireRelay(hc huma.Context, next func(huma.Context)) {
	_, w := humago.Unwrap(hc)
	token, ok := bearer(hc)
	if !ok {
		refuseBearer(w, "this needs the credential of a relay")
		return
	}
	one, err := s.store.AuthenticateRelay(hc.Context(), store.HashOf(token))
	switch {
	case errors.Is(err, store.ErrNotFound):
		refuseBearer(w, "the credential is unknown: the relay was deleted, or joined again elsewhere")
	case err != nil:
		writeProblem(w, s.internal("authenticate relay", err))
	default:
		next(huma.WithValue(hc, relayKey{}, one))
	}
}

// heartbeat takes in what a relay reports, and tells it whom not to serve.
func (s *Service) heartbeat(ctx context.Context, in *heartbeatInput) (*heartbeatOutput, error) {
	one, _ := ctx.Value(relayKey{}).(store.Relay)
	if err := s.limitUpdates("relay", one.ID); err != nil {
		return nil, err
	}
	if err := in.Body.Check(); err != nil {
		return nil, invalid("%v", err)
	}
	there, err := s.relays.heartbeat(ctx, one.ID, in.Body, time.Now())
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && !there:
		return nil, unauthorized("this relay is no longer one of the service's")
	case err != nil:
		return nil, s.internal("relay heartbeat", err)
	}
	answer, err := s.relays.answer(ctx, in.Body.Since)
	if err != nil {
		return nil, s.internal("relay heartbeat", err)
	}
	return &heartbeatOutput{Body: answer}, nil
}

func (s *Service) listRelays(context.Context, *struct{}) (*relaysOutput, error) {
	return &relaysOutput{Body: controlapi.RelayInfoList{Relays: s.relays.infos(s.hub.homes(), time.Now())}}, nil
}

func (s *Service) deleteRelay(ctx context.Context, in *relayPathIn) (*struct{}, error) {
	if in.Relay == embeddedName || in.Relay == s.relay.entry.ID {
		return nil, invalid("relay %q is part of the service and cannot be deleted", embeddedName)
	}
	id, err := s.store.DeleteRelay(ctx, in.Relay)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, notFound("relay", in.Relay)
	case err != nil:
		return nil, s.internal("delete relay", err)
	}
	s.relays.removed(id, time.Now())
	s.log.Info("relay deleted", logRelay, in.Relay, logID, id, logkey.Reason, "by the administrator")
	return nil, nil
}
