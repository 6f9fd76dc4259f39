package controlclient

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"nexd/controlapi"
	"nexd/internal/logkey"
)

// endless tries go on until the context ends.
const endless = math.MaxInt32

const (
	minWait = 200 * time.Millisecond
	maxWait = 30 * time.Second
	// maxRetryAfter bounds what a service (or what stands in its place) can ask for.
	maxRetryAfter = 10 * time.Minute
	// patience is the longest single wait of a call whose tries are counted:
	// somebody is looking on.
	patience = 10 * time.Second
)

// tries is the state of one call's tries; one goroutine uses it.
type tries struct {
	client *Client
	call   call
	cause  error  // of the last failed try
	said   string // text of the last warning
}

// check decides after each try; it is retryablehttp's CheckRetry, and reads
// the answer too, because a broken answer is a failed try.
func (t *tries) check(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err == nil {
		err = readAnswer(resp, t.call.out, t.call.limit)
	}
	if ctx.Err() != nil && err != nil {
		return false, ctx.Err()
	}
	if err == nil {
		t.cause = nil
		return false, nil
	}
	t.cause = t.client.explain(err)
	if !worthwhile(t.cause, t.call.repeatable) {
		return false, t.cause
	}
	if after, ok := retryAfter(resp, time.Now()); ok && after > patience && t.call.retries != endless {
		return false, t.cause
	}
	return true, nil
}

// backoff is retryablehttp's Backoff.
func (t *tries) backoff(lo, hi time.Duration, attempt int, resp *http.Response) time.Duration {
	wait := nextWait(lo, hi, attempt)
	if after, ok := retryAfter(resp, time.Now()); ok {
		wait = max(wait, spread(after))
	}
	level := t.client.log.Debug
	if text := t.cause.Error(); t.call.retries == endless && text != t.said {
		level, t.said = t.client.log.Warn, text
	}
	level("service request will be tried again", logkey.URL, t.client.URL()+t.call.path, logkey.Err, t.cause, logkey.Wait, wait)
	if t.call.onWait != nil {
		t.call.onWait(t.cause, wait)
	}
	return wait
}

// worthwhile reports whether the same request may fare better later.
func worthwhile(err error, repeatable bool) bool {
	if p, ok := asProblem(err); ok {
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusTooEarly, http.StatusServiceUnavailable:
			return passing(p.Code) // the service did nothing
		case http.StatusRequestTimeout:
			return repeatable
		case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
			return false
		}
		return p.Status >= 500 && repeatable && passing(p.Code)
	}
	var connect *ConnectError
	if !errors.As(err, &connect) {
		return false // a wrong certificate
	}
	return !connect.final && (repeatable || neverSent(err))
}

// passing reports whether a refusal with this code is about the moment and not
// about the request.
func passing(code controlapi.Code) bool {
	return code == "" || code == controlapi.CodeInternal || code == controlapi.CodeRateLimited
}

// neverSent reports whether no connection came about.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect")
}

// nextWait draws from [lo, min(hi, lo·2^(attempt+1))]: the whole range is
// random, so that devices that lost the service together do not come back
// together.
func nextWait(lo, hi time.Duration, attempt int) time.Duration {
	ceiling := hi
	if attempt < 30 && lo<<(attempt+1) < hi {
		ceiling = lo << (attempt + 1)
	}
	if ceiling <= lo {
		return lo
	}
	return lo + rand.N(ceiling-lo)
}

// spread adds up to a tenth and half a second to a wait that many were told.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d/10+500*time.Millisecond)
}

// retryAfter reads the header of that name (RFC 9110 section 10.2.3), in
// either form, bounded by maxRetryAfter. resp may be nil.
func retryAfter(resp *http.Response, now time.Time) (time.Duration, bool) {
	if resp == nil {
		return 0, false
	}
	text := resp.Header.Get("Retry-After")
	if text == "" {
		return 0, false
	}
	if s, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(s)*time.Second, maxRetryAfter), true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), maxRetryAfter), true
}
