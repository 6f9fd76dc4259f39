package controlclient

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"nexd/controlapi"
	"nexd/internal/logkey"
)

const (
	// maxLine is the longest line of the stream in bytes: a snapshot of some
	// twenty thousand devices.
	maxLine = 8 << 20
	// keepLine is the largest buffer kept from one line to the next.
	keepLine = 256 << 10
	// slowLine is how many silences long a single line may take on a slow network.
	slowLine = 10
)

// stream is one open watch connection. Only the goroutine that opened it uses it.
type stream struct {
	client *Client
	ctx    context.Context
	cancel context.CancelCauseFunc
	unkick func() bool // stops listening for Reconnect
	silent *time.Timer // cancels ctx
	limit  time.Duration
	body   io.ReadCloser
	r      *bufio.Reader
	line   []byte
	due    time.Time // by when the line under way must be whole
	opened time.Time
	lines  int
}

// open asks for a stream of what happened after since; empty epoch: everything.
// after is the service's Retry-After, where it refused with one.
func (c *Client) open(ctx, era context.Context, cfg WatchConfig, epoch string, since uint64) (_ *stream, after time.Duration, err error) {
	s := &stream{client: c, limit: cfg.HeartbeatTimeout, opened: time.Now()}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.unkick = context.AfterFunc(era, func() { s.cancel(errKicked) })
	s.silent = time.AfterFunc(s.limit, func() { s.cancel(errSilent) })
	defer func() {
		if err != nil {
			s.close()
		}
	}()

	target := c.base.String() + "/v1/watch"
	if epoch != "" {
		target += "?" + url.Values{"epoch": {epoch}, "since": {strconv.FormatUint(since, 10)}}.Encode()
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, 0, err
	}
	const kind = "application/x-ndjson"
	setHeaders(req.Header, cfg.Credential, kind)
	req.Header.Set("Accept-Encoding", "identity") // a proxy that compresses also collects
	resp, err := c.streams.Do(req)
	if err != nil {
		return nil, 0, s.cause(err)
	}
	s.body = resp.Body
	if s.ctx.Err() != nil { // given up in the very moment of the answer
		return nil, 0, context.Cause(s.ctx)
	}
	if err := checkStatus(resp); err != nil {
		after, _ = retryAfter(resp, time.Now())
		return nil, after, c.explain(err)
	}
	if got, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); got != kind {
		return nil, 0, notService(fmt.Sprintf("its watch stream is %q and not %s", clip(got), kind), nil)
	}
	s.r = bufio.NewReaderSize(s, 32<<10)
	s.opened = time.Now()
	return s, 0, nil
}

// age is the time since the service answered.
func (s *stream) age() time.Duration { return time.Since(s.opened) }

// close ends the connection. Nothing of the stream runs afterwards, but for
// net/http's own goroutines, which notice.
func (s *stream) close() {
	s.unkick()
	s.silent.Stop()
	s.cancel(nil)
	if s.body != nil {
		s.body.Close()
	}
}

// cause says why the stream was cut from this side, or explains err.
func (s *stream) cause(err error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return s.client.explain(err)
}

// next returns the next event. The silence that ends a stream is counted only
// in here: a caller may take its time.
func (s *stream) next() (controlapi.Event, error) {
	defer s.silent.Stop()
	for {
		line, err := s.readLine()
		if err != nil {
			return controlapi.Event{}, err
		}
		if len(line) == 0 {
			continue // an empty line is a sign of life
		}
		s.lines++
		ev, skipped, err := decodeEvent(line)
		if err != nil {
			return controlapi.Event{}, err
		}
		for _, why := range skipped {
			s.client.log.Warn("an entry of the watch stream is left out", logkey.Reason, why)
		}
		return ev, nil
	}
}

// readLine returns one line without its end; the bytes are valid until the
// next call. Any byte is a sign of life, but one line may not take for ever.
func (s *stream) readLine() ([]byte, error) {
	if cap(s.line) > keepLine {
		s.line = nil
	}
	s.line = s.line[:0]
	s.due = time.Now().Add(slowLine * s.limit)
	for {
		part, err := s.r.ReadSlice('\n')
		if len(s.line)+len(part) > maxLine {
			return nil, &protocolError{fmt.Sprintf("a line is longer than %d bytes", maxLine)}
		}
		s.line = append(s.line, part...)
		switch {
		case err == nil:
			return trimEnd(s.line), nil
		case err != bufio.ErrBufferFull:
			return nil, s.cause(err)
		}
	}
}

// Read is what the buffer fills itself with: each time the clock of silence
// starts again, and never beyond what the line under way has left.
func (s *stream) Read(p []byte) (int, error) {
	s.silent.Reset(min(s.limit, time.Until(s.due)))
	return s.body.Read(p)
}

// trimEnd drops the line's end and any spaces around.
func trimEnd(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] <= ' ' {
		b = b[:len(b)-1]
	}
	return b
}
