package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
)

type challengeOutput struct{ Body controlapi.Challenge }

func (s *Service) challenge(_ context.Context, _ *struct{}) (*challengeOutput, error) {
	return &challengeOutput{Body: s.challenger.challenge(time.Now())}, nil
}

type (
	joinInput  struct{ Body controlapi.JoinRequest }
	joinOutput struct{ Body controlapi.JoinResponse }
)

func (s *Service) join(ctx context.Context, in *joinInput) (*joinOutput, error) {
	remote := remoteFrom(ctx)
	res, credential, err := s.admit(ctx, in.Body)
	if err != nil {
		p := s.refusal("join", err)
		s.metrics.joins.WithLabelValues(string(p.Code)).Inc()
		s.log.Info("join refused", logkey.Device, clip(in.Body.Name), logkey.Peer, in.Body.PublicKey.Short(),
			logkey.Addr, remote, logkey.Reason, string(p.Code))
		return nil, p
	}
	s.metrics.joins.WithLabelValues(res.Kind.String()).Inc()
	s.log.Info("device joined", logkey.Device, res.Device.Name, logID, res.Device.ID, logkey.Peer, res.Device.PublicKey.Short(),
		logkey.Addr, remote, logkey.State, res.Kind.String(), logRegKey, res.Device.RegKeyID)
	return &joinOutput{Body: controlapi.JoinResponse{
		Device: deviceOf(res.Device), Network: networkOf(res.Network), Credential: credential,
	}}, nil
}

// admit checks a join and makes the device a member. When it returns, the
// device is in the database and in the map of everyone connected.
func (s *Service) admit(ctx context.Context, r controlapi.JoinRequest) (store.JoinResult, string, error) {
	now := time.Now()
	if p := checkJoin(r); p != nil {
		return store.JoinResult{}, "", p
	}
	if err := s.challenger.verify(r, now); err != nil {
		return store.JoinResult{}, "", proofProblem(err)
	}
	secret := store.HashOf(r.RegKey)
	network, err := s.store.NetworkOfRegKey(ctx, secret)
	if err != nil {
		return store.JoinResult{}, "", err
	}
	credential := newSecret()
	res, err := s.store.Join(ctx, network, store.Join{
		Secret: secret, PublicKey: r.PublicKey, Name: r.Name, NumberName: r.OnNameTaken == controlapi.NameNumber,
		RequestIP: r.RequestIP, Ephemeral: r.Ephemeral, Version: printable(r.Version), OS: printable(r.OS),
		DeviceID: store.NewID("dev"), Credential: store.HashOf(credential), Now: now, Connected: s.hub.connected,
		Deny: s.deletion(now).Deny,
	})
	if err != nil {
		return store.JoinResult{}, "", err
	}
	s.hub.sync(ctx)
	s.hub.noteJoined(res.Device)
	return res, credential, nil
}

// checkJoin looks at what needs no database.
func checkJoin(r controlapi.JoinRequest) *controlapi.Problem {
	if err := controlapi.CheckName(r.Name); err != nil {
		hint := "choose a name with --hostname"
		if clean := controlapi.CleanName(r.Name); clean != "" {
			hint = fmt.Sprintf("use --hostname %s", clean)
		}
		return problem(http.StatusUnprocessableEntity, controlapi.CodeNameInvalid, err.Error(), hint)
	}
	switch {
	case r.PublicKey.IsZero():
		return invalid("public_key is empty")
	case r.OnNameTaken != "" && r.OnNameTaken != controlapi.NameRefuse && r.OnNameTaken != controlapi.NameNumber:
		return invalid("on_name_taken: want %q or %q", controlapi.NameRefuse, controlapi.NameNumber)
	case r.RequestIP.IsValid() && !r.RequestIP.Is4():
		return problem(http.StatusUnprocessableEntity, controlapi.CodeAddressInvalid,
			fmt.Sprintf("requested address %s is not an IPv4 address", r.RequestIP), "request an IPv4 address; the IPv6 address follows from it")
	}
	return nil
}

func proofProblem(err error) *controlapi.Problem {
	if errors.Is(err, errProof) {
		return problem(http.StatusForbidden, controlapi.CodeProof, err.Error(), "")
	}
	return problem(http.StatusForbidden, controlapi.CodeChallenge, err.Error(), "ask for a new challenge and answer it at once")
}

// refusal turns any error of an operation into an answer. What the client
// cannot help is logged here.
func (s *Service) refusal(doing string, err error) *controlapi.Problem {
	var p *controlapi.Problem
	if errors.As(err, &p) {
		return p
	}
	if p := joinProblem(err); p != nil {
		return p
	}
	return s.internal(doing, err)
}

// internal logs an error of ours and returns an answer that tells nothing of it.
func (s *Service) internal(doing string, err error) *controlapi.Problem {
	const status = http.StatusInternalServerError
	if errors.Is(err, context.Canceled) {
		return problem(http.StatusServiceUnavailable, controlapi.CodeInternal, "the request was cancelled", "")
	}
	s.log.Error("request failed", logkey.Task, doing, logkey.Err, err)
	if errors.Is(err, store.ErrDamaged) {
		return problem(status, controlapi.CodeInternal, "the record of this device is damaged", "delete the device (nexctl device delete) and join again")
	}
	return problem(status, controlapi.CodeInternal, "the service could not do this now", "try again later; its log says why")
}

// printable keeps foreign text from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, ""))
}

// clip keeps foreign text in a log line short.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return s
}
