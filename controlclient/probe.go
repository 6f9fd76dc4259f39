package controlclient

import (
	"context"
	"net/http"

	"nexd/controlapi"
)

// Probe asks once whether a nexd service answers at the URL, and how it is: nil
// when it is alive. It shows no credential. Its errors are those of [Client.Join].
func (c *Client) Probe(ctx context.Context) error {
	var health controlapi.Health
	if err := c.do(ctx, call{method: http.MethodGet, path: "/healthz", out: &health}); err != nil {
		return err
	}
	if health.Status == "" {
		return notService("its answer names no status", nil)
	}
	return nil
}
