package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"nexd/internal/buildinfo"
	"nexd/rules"
)

// maxAnswer bounds what a client reads, in bytes: a status of some 100,000 peers.
const maxAnswer = 64 << 20

// Client asks the daemon behind one socket. It is safe for concurrent use. Its
// errors are *[NoDaemonError], *[UserError] (the request was wrong), *[Problem]
// (it could not be done) or the context's.
type Client struct {
	path string
	http *http.Client
}

// NoDaemonError says that nobody answers on the socket.
type NoDaemonError struct {
	Path string
	Err  error
}

func (e *NoDaemonError) Error() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return fmt.Sprintf("socket %s belongs to another user", e.Path)
	}
	return fmt.Sprintf("no daemon at %s", e.Path)
}

// Hint says what to do.
func (e *NoDaemonError) Hint() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return "run nexctl as the user who runs nexd"
	}
	return "is nexd running? Name its socket with --unix-socket PATH where it is another"
}

func (e *NoDaemonError) Unwrap() error { return e.Err }

// NewClient returns a client of the socket at path. Nothing is opened yet.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "unix", path)
			if err != nil && ctx.Err() == nil {
				err = &NoDaemonError{Path: path, Err: err}
			}
			return conn, err
		},
		DisableKeepAlives: true,
	}}}
}

// Status returns the daemon's present state.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Wait blocks until the condition is met, at most timeout (0: until ctx ends).
func (c *Client) Wait(ctx context.Context, cond Condition, timeout time.Duration) (Status, error) {
	q := url.Values{"for": {cond.String()}}
	if timeout > 0 {
		q.Set("timeout", min(timeout, MaxWait).String())
	}
	return ask[Status](ctx, c, http.MethodGet, "/v1/wait?"+q.Encode(), nil)
}

// Rules returns every declared rule with its state.
func (c *Client) Rules(ctx context.Context) ([]RuleStatus, error) {
	l, err := ask[RuleList](ctx, c, http.MethodGet, "/v1/rules", nil)
	return l.Rules, err
}

// ChangeRules removes and adds rules in one step and returns all of them.
func (c *Client) ChangeRules(ctx context.Context, add, remove []rules.Spec) ([]RuleStatus, error) {
	var change RuleChange
	for _, s := range add {
		change.Add = append(change.Add, TextOf(s))
	}
	for _, s := range remove {
		change.Remove = append(change.Remove, TextOf(s))
	}
	l, err := ask[RuleList](ctx, c, http.MethodPost, "/v1/rules", change)
	return l.Rules, err
}

// Ping sends one echo request to a peer and waits at most timeout (0: the default).
func (c *Client) Ping(ctx context.Context, peer string, timeout time.Duration) (PingResult, error) {
	req := PingRequest{Peer: peer, TimeoutMillis: timeout.Milliseconds()}
	r, err := ask[PingResult](ctx, c, http.MethodPost, "/v1/ping", req)
	r.RTT = time.Duration(r.Millis * float64(time.Millisecond))
	return r, err
}

// Trace describes the path to a peer: its name, id, address or public key.
func (c *Client) Trace(ctx context.Context, peer string) (Trace, error) {
	return ask[Trace](ctx, c, http.MethodGet, "/v1/trace?"+url.Values{"peer": {peer}}.Encode(), nil)
}

// Netcheck measures what the daemon's network lets through; that takes some seconds.
func (c *Client) Netcheck(ctx context.Context) (Netcheck, error) {
	return ask[Netcheck](ctx, c, http.MethodGet, "/v1/netcheck", nil)
}

// Doctor returns what the daemon finds wrong with itself.
func (c *Client) Doctor(ctx context.Context) (Doctor, error) {
	return ask[Doctor](ctx, c, http.MethodGet, "/v1/doctor", nil)
}

// LogLevel returns the daemon's log level.
func (c *Client) LogLevel(ctx context.Context) (string, error) {
	l, err := ask[LogLevel](ctx, c, http.MethodGet, "/v1/log-level", nil)
	return l.Level, err
}

// SetLogLevel changes it.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	_, err := ask[LogLevel](ctx, c, http.MethodPut, "/v1/log-level", LogLevel{Level: level})
	return err
}

// Version describes the daemon's build.
func (c *Client) Version(ctx context.Context) (buildinfo.Info, error) {
	return ask[buildinfo.Info](ctx, c, http.MethodGet, "/v1/version", nil)
}

// ask sends a request with an optional body and decodes the answer.
func ask[T any](ctx context.Context, c *Client, method, target string, body any) (T, error) {
	var zero T
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return zero, fmt.Errorf("ask the daemon: %w", err)
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://nexd"+target, payload)
	if err != nil {
		return zero, fmt.Errorf("ask the daemon: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return zero, c.transportError(ctx, err)
	}
	defer resp.Body.Close()
	from := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode >= 300 {
		return zero, c.refusal(resp.StatusCode, from)
	}
	var answer T
	if err := json.NewDecoder(from).Decode(&answer); err != nil {
		if ctx.Err() != nil {
			return zero, ctx.Err()
		}
		return zero, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return answer, nil
}

// transportError tells an absent daemon from one that went away.
func (c *Client) transportError(ctx context.Context, err error) error {
	var none *NoDaemonError
	switch {
	case errors.As(err, &none):
		return none
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &NoDaemonError{Path: c.path, Err: err}
	}
	return fmt.Errorf("ask the daemon at %s: %w", c.path, err)
}

// refusal reads a Problem; whatever else is behind the socket is named.
func (c *Client) refusal(status int, body io.Reader) error {
	var p Problem
	if err := json.NewDecoder(body).Decode(&p); err != nil || p.Message == "" {
		return &Problem{
			Message: fmt.Sprintf("%s answered with status %d and no reason", c.path, status),
			Hint:    "is it nexd's socket?", Status: status,
		}
	}
	p.Status = status
	if status == http.StatusBadRequest {
		return &UserError{Message: p.Message, Hint: p.Hint}
	}
	return &p
}
