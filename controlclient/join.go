package controlclient

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// JoinParams is what a device asks for.
type JoinParams struct {
	Private key.Private
	// RegKey is a registration key, whole or its secret part alone. Its URL
	// and pin are not looked at here: they belong in [Config].
	RegKey string
	// Name is the wanted device name; OnNameTaken is controlapi.NameRefuse or
	// controlapi.NameNumber, empty: refuse.
	Name        string
	OnNameTaken string
	RequestIP   netip.Addr // invalid: any
	Ephemeral   bool
	Version, OS string
	// OnWait is told of each failure that is worth another try, and when that
	// will be. It must not block. It may be nil.
	OnWait func(err error, wait time.Duration)
}

// maxChallenges bounds how often a join starts over because its challenge
// went stale while the service was away.
const maxChallenges = 8

// Join makes the device a member, or the member it already is: the same key
// proved again is the same device, so a join whose answer was lost is safely
// repeated. A service that cannot be reached or is busy is tried until ctx
// ends; the error then holds both the context's and the last cause. A refusal
// (*controlapi.Problem), a wrong certificate (*PinError, *CertTimeError) or an
// answer from something else (*ConnectError) is returned at once.
func (c *Client) Join(ctx context.Context, p JoinParams) (controlapi.JoinResponse, error) {
	secret, err := joinSecret(p.Private, p.RegKey)
	if err != nil {
		return controlapi.JoinResponse{}, err
	}
	req := controlapi.JoinRequest{
		RegKey: secret, PublicKey: p.Private.Public(),
		Name: p.Name, OnNameTaken: p.OnNameTaken, RequestIP: p.RequestIP, Ephemeral: p.Ephemeral,
		Version: p.Version, OS: p.OS,
	}
	var resp controlapi.JoinResponse
	err = c.joinWith(ctx, p.OnWait, call{path: "/v1/join", out: &resp}, func(challenge controlapi.Challenge) (_ any, err error) {
		req.Token = challenge.Token
		req.Proof, err = prove(p.Private, challenge, controlapi.ProofLabel, req.Transcript())
		return req, err
	})
	if err == nil && (resp.Credential == "" || resp.Device.PublicKey != req.PublicKey || len(resp.Device.Addresses) == 0) {
		err = notService("its answer names no credential, no address or another key", nil)
	}
	if err != nil {
		return controlapi.JoinResponse{}, fmt.Errorf("join %s: %w", c.URL(), err)
	}
	return resp, nil
}

// joinSecret returns what of a registration key goes to the service.
func joinSecret(private key.Private, regKey string) (string, error) {
	k, err := controlapi.ParseRegKey(regKey)
	if err != nil {
		return "", err
	}
	if private.IsZero() {
		return "", fmt.Errorf("join: %w", key.ErrZero)
	}
	return k.Secret, nil
}

// joinWith takes a challenge and posts what answers it, as k says, until it is
// accepted or refused. It starts over while the challenge, which went stale
// while the service was away, is the only thing that was wrong.
func (c *Client) joinWith(ctx context.Context, onWait func(error, time.Duration), k call, answer func(controlapi.Challenge) (any, error)) (err error) {
	k.method, k.retries, k.repeatable, k.onWait = http.MethodPost, endless, true, onWait
	for range maxChallenges {
		var challenge controlapi.Challenge
		ask := k
		ask.path, ask.in, ask.out = "/v1/challenge", nil, &challenge
		if err = c.do(ctx, ask); err != nil {
			return err
		}
		if k.in, err = answer(challenge); err != nil {
			return fmt.Errorf("answer the challenge: %w", err)
		}
		err = c.do(ctx, k)
		if p, refused := asProblem(err); !refused || p.Code != controlapi.CodeChallenge {
			break
		}
	}
	return err
}

// prove shows the service of the challenge that the caller has the private key.
func prove(private key.Private, challenge controlapi.Challenge, label string, transcript []byte) ([]byte, error) {
	proof, err := private.Proof(challenge.ServerKey, label, transcript)
	return proof[:], err
}
