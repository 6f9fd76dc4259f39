package controlclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"nexd/controlapi"
)

// Retries of requests somebody waits for.
const (
	signalRetries = 2
	leaveRetries  = 3
)

// Signal has the service pass a sealed message to another member. delivered is
// false when that member has no stream now; the service keeps nothing. A lost
// answer is tried again, so the other side may see a signal twice.
func (c *Client) Signal(ctx context.Context, credential string, s controlapi.Signal) (delivered bool, err error) {
	if len(s.Payload) > controlapi.MaxSignal {
		return false, fmt.Errorf("signal of %d bytes: at most %d", len(s.Payload), controlapi.MaxSignal)
	}
	var result controlapi.SignalResult
	err = c.do(ctx, call{method: http.MethodPost, path: "/v1/signals", token: credential, in: s, out: &result, retries: signalRetries, repeatable: true})
	if err != nil {
		return false, fmt.Errorf("signal %s: %w", s.To.Short(), err)
	}
	return result.Delivered, nil
}

// Leave takes the device out of the network. A device the service does not
// know has left already.
func (c *Client) Leave(ctx context.Context, credential string) error {
	err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/self", token: credential, retries: leaveRetries, repeatable: true})
	if isUnauthorized(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("leave %s: %w", c.URL(), err)
	}
	return nil
}

// isUnauthorized reports whether the service itself (and not, say, a proxy in
// front of it) says that a credential is void.
func isUnauthorized(err error) bool {
	var p *controlapi.Problem
	return errors.As(err, &p) && p.Code == controlapi.CodeUnauthorized
}
