package controlclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// relayRetries is small: the next heartbeat is not far.
const relayRetries = 2

// ErrRelayDeleted is the end of a relay's heartbeats: the service no longer
// knows it. Joining anew is the only way back.
var ErrRelayDeleted = errors.New("this relay was deleted from the service")

// RelayJoinParams is what a stand-alone relay asks for.
type RelayJoinParams struct {
	Private key.Private
	// RegKey is a registration key whose role is relay, whole or its secret part
	// alone. Its URL and pin are not looked at here: they belong in [Config].
	RegKey  string
	Name    string
	Address controlapi.RelayAddress
	Version string
	// OnWait is told of each failure that is worth another try, and when that
	// will be. It must not block. It may be nil.
	OnWait func(err error, wait time.Duration)
}

// JoinRelay makes the caller a relay of the service, or the one it already is.
// It goes on and fails as [Client.Join] does.
func (c *Client) JoinRelay(ctx context.Context, p RelayJoinParams) (controlapi.RelayJoinResponse, error) {
	secret, err := joinSecret(p.Private, p.RegKey)
	if err != nil {
		return controlapi.RelayJoinResponse{}, err
	}
	req := controlapi.RelayJoinRequest{
		RegKey: secret, PublicKey: p.Private.Public(), Name: p.Name, RelayAddress: p.Address, Version: p.Version,
	}
	var resp controlapi.RelayJoinResponse
	err = c.joinWith(ctx, p.OnWait, call{path: "/v1/relays", out: &resp}, func(challenge controlapi.Challenge) (_ any, err error) {
		req.Token = challenge.Token
		req.Proof, err = prove(p.Private, challenge, controlapi.RelayProofLabel, req.Transcript())
		return req, err
	})
	if err == nil && (resp.Credential == "" || resp.ID == "" || len(resp.Issuers) == 0) {
		err = notService("its answer names no credential, no id or no issuer", nil)
	}
	if err != nil {
		return controlapi.RelayJoinResponse{}, fmt.Errorf("join %s as a relay: %w", c.URL(), err)
	}
	return resp, nil
}

// RelayHeartbeat reports as a stand-alone relay, with the credential of
// [Client.JoinRelay], and returns what it has to know. It is tried a few times;
// errors.Is(err, ErrRelayDeleted) when the service does not know the relay.
func (c *Client) RelayHeartbeat(ctx context.Context, credential string, beat controlapi.RelayHeartbeat) (controlapi.RelayHeartbeatAnswer, error) {
	var answer controlapi.RelayHeartbeatAnswer
	err := c.do(ctx, call{
		method: http.MethodPut, path: "/v1/relays/self", token: credential, in: beat, out: &answer, retries: relayRetries, repeatable: true,
	})
	if isUnauthorized(err) {
		err = fmt.Errorf("%w: %w", ErrRelayDeleted, err)
	}
	if err != nil {
		return controlapi.RelayHeartbeatAnswer{}, fmt.Errorf("heartbeat to %s: %w", c.URL(), err)
	}
	return answer, nil
}

// PublishRelays tells the other members which relays the device keeps sessions
// with: its home first, at most [controlapi.MaxHomes].
func (c *Client) PublishRelays(ctx context.Context, credential string, ids []string) error {
	if ids == nil {
		ids = []string{}
	}
	err := c.do(ctx, call{
		method: http.MethodPut, path: "/v1/self/relays", token: credential, in: controlapi.Homes{Relays: ids}, retries: relayRetries, repeatable: true,
	})
	if err != nil {
		return fmt.Errorf("publish relays: %w", err)
	}
	return nil
}

// TLSConfig returns how the client itself trusts the service: for a relay
// whose WebSocket is on the service's own port. It is the caller's to change.
func (c *Client) TLSConfig() *tls.Config { return c.tls.Clone() }

// RelayTLS returns how to trust a relay's WebSocket, as its list entry says: as
// the service where the URL is a path, by its pin, or by the authorities the
// client knows. It is the caller's to change.
func (c *Client) RelayTLS(r controlapi.Relay) *tls.Config {
	if strings.HasPrefix(r.URL, "/") {
		return c.TLSConfig()
	}
	return c.trust.forRelay(r)
}
