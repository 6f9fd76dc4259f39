package controlclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"nexd/controlapi"
	"nexd/internal/buildinfo"
)

// Largest answers read, in bytes.
const (
	answerLimit = 1 << 20
	listLimit   = 64 << 20 // an administrator's list of everything
)

// call is one request with all its tries.
type call struct {
	method, path string
	token        string       // bearer; empty: none
	in, out      any          // nil: no body
	limit        int64        // of the answer in bytes; 0: answerLimit
	header       *http.Header // takes that of the answer; nil: it does not matter
	// retries after the first try, or endless.
	retries int
	// repeatable says that doing it twice is as good as once. Otherwise it is
	// tried again only when the service surely did nothing.
	repeatable bool
	onWait     func(err error, wait time.Duration)
}

// do carries out k. The error is the last cause: *controlapi.Problem for a
// refusal, else one of the types in errors.go; when ctx ended it holds that too.
func (c *Client) do(ctx context.Context, k call) error {
	var body any
	if k.in != nil {
		b, err := json.Marshal(k.in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = b
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, k.method, c.base.String()+k.path, body)
	if err != nil {
		return err
	}
	setHeaders(req.Header, k.token, "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	t := tries{client: c, call: k}
	rc := &retryablehttp.Client{
		HTTPClient: c.requests, CheckRetry: t.check, Backoff: t.backoff,
		RetryMax: k.retries, RetryWaitMin: minWait, RetryWaitMax: maxWait,
	}
	resp, err := rc.Do(req)
	if resp != nil {
		resp.Body.Close() // check has read what there was to read
	}
	if err == nil {
		if k.header != nil {
			*k.header = resp.Header
		}
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		if t.cause == nil {
			return ctxErr
		}
		return fmt.Errorf("%w (%w)", t.cause, ctxErr)
	}
	if t.cause != nil {
		return t.cause
	}
	return c.explain(err)
}

func setHeaders(h http.Header, token, accept string) {
	h.Set("Accept", accept+", application/problem+json")
	h.Set("User-Agent", "nexd/"+buildinfo.Version())
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
}

// readAnswer takes in the body of a response. It returns nil when out was
// filled, and otherwise why this is not the wanted answer. It does not close
// the body.
func readAnswer(resp *http.Response, out any, limit int64) error {
	if err := checkStatus(resp); err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if limit == 0 {
		limit = answerLimit
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > limit {
		return notService(fmt.Sprintf("its answer is longer than %d bytes", limit), nil)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return notService("its answer is not the JSON that was expected", err)
	}
	return nil
}

// checkStatus returns nil for a success and a typed error for anything else.
func checkStatus(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return redirected(resp)
	}
	return readProblem(resp)
}

// redirected tells where to, without following: the request holds secrets.
func redirected(resp *http.Response) error {
	e := &ConnectError{
		Message: fmt.Sprintf("%s redirects elsewhere (%s)", resp.Request.URL.Host, resp.Status), final: true,
		Advice: "check the service URL: redirects are not followed, since requests carry credentials",
	}
	if to, err := resp.Location(); err == nil {
		path := strings.TrimSuffix(to.Path, resp.Request.URL.Path)
		to = &url.URL{Scheme: to.Scheme, Host: to.Host}
		if i := strings.Index(path, "/v1/"); i >= 0 {
			path = path[:i]
		}
		to.Path = path
		e.Message = fmt.Sprintf("%s redirects to %s", resp.Request.URL.Host, clip(to.String()))
		e.Advice = "if that is the service, give its URL: redirects are not followed, since requests carry credentials"
	}
	return e
}

// readProblem makes a refusal of a response that is none of ours too, such as
// a reverse proxy's page: then only the status counts, and the code is empty.
func readProblem(resp *http.Response) error {
	plain := &controlapi.Problem{Status: resp.StatusCode, Title: strings.ToLower(http.StatusText(resp.StatusCode))}
	switch {
	case plain.Title == "":
		plain.Title = fmt.Sprintf("status %d", resp.StatusCode)
	case resp.StatusCode >= 500:
		plain.Detail = fmt.Sprintf("the service is not available (%d %s)", resp.StatusCode, plain.Title)
	default:
		plain.Detail = fmt.Sprintf("%s answers %d %s, but not as a nexd service does", resp.Request.URL.Host, resp.StatusCode, plain.Title)
		plain.Hint = "check the service URL, and what stands between"
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/problem+json" && kind != "application/json" {
		return plain
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return plain
	}
	p := new(controlapi.Problem)
	if json.Unmarshal(b, p) != nil || p.Code == "" {
		return plain
	}
	p.Status = resp.StatusCode // what was said on the wire is what proxies acted on
	p.Detail, p.Title, p.Hint = printable(p.Detail), printable(p.Title), printable(p.Hint)
	return p
}

// asProblem finds a refusal in err.
func asProblem(err error) (*controlapi.Problem, bool) {
	var p *controlapi.Problem
	ok := errors.As(err, &p)
	return p, ok
}

// printable makes foreign text fit for a terminal and a log line.
func printable(s string) string {
	return clip(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

// clip bounds foreign text.
func clip(s string) string {
	const most = 512
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
