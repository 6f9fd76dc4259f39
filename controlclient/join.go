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
	var resp controlapi.JoinResponse
	regKey, err := controlapi.ParseRegKey(p.RegKey)
	if err != nil {
		return resp, err
	}
	if p.Private.IsZero() {
		return resp, fmt.Errorf("join: %w", key.ErrZero)
	}
	err = repeatStale(func() error {
		resp, err = c.joinOnce(ctx, p, regKey.Secret)
		return err
	})
	if err != nil {
		return resp, fmt.Errorf("join %s: %w", c.URL(), err)
	}
	return resp, nil
}

// repeatStale joins again while the challenge is the only thing that was wrong.
func repeatStale(once func() error) (err error) {
	for range maxChallenges {
		err = once()
		if p, refused := asProblem(err); !refused || p.Code != controlapi.CodeChallenge {
			break
		}
	}
	return err
}

// joinOnce takes one challenge and answers it.
func (c *Client) joinOnce(ctx context.Context, p JoinParams, secret string) (controlapi.JoinResponse, error) {
	var resp controlapi.JoinResponse
	var challenge controlapi.Challenge
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/challenge", out: &challenge, retries: endless, repeatable: true, onWait: p.OnWait})
	if err != nil {
		return resp, err
	}
	req := controlapi.JoinRequest{
		RegKey: secret, PublicKey: p.Private.Public(), Token: challenge.Token,
		Name: p.Name, OnNameTaken: p.OnNameTaken, RequestIP: p.RequestIP, Ephemeral: p.Ephemeral,
		Version: p.Version, OS: p.OS,
	}
	proof, err := p.Private.Proof(challenge.ServerKey, controlapi.ProofLabel, req.Transcript())
	if err != nil {
		return resp, fmt.Errorf("answer the challenge: %w", err)
	}
	req.Proof = proof[:]
	err = c.do(ctx, call{method: http.MethodPost, path: "/v1/join", in: req, out: &resp, retries: endless, repeatable: true, onWait: p.OnWait})
	if err != nil {
		return resp, err
	}
	if resp.Credential == "" || resp.Device.PublicKey != req.PublicKey || len(resp.Device.Addresses) == 0 {
		return resp, notService("its answer names no credential, no address or another key", nil)
	}
	return resp, nil
}
