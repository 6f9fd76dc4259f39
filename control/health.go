package control

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"nexd/controlapi"
	"nexd/internal/logkey"
)

type healthOutput struct {
	Body controlapi.Health
}

func (s *Service) healthz(context.Context, *struct{}) (*healthOutput, error) {
	return &healthOutput{Body: controlapi.Health{Status: "ok"}}, nil
}

// readyz is ready when the listeners stand and the store takes a write.
func (s *Service) readyz(ctx context.Context, _ *struct{}) (*healthOutput, error) {
	if reason := s.stun.failed.reason(); reason != "" {
		return nil, problem(http.StatusServiceUnavailable, controlapi.CodeInternal, "STUN: "+reason, "restart the service")
	}
	if reason := s.relay.failed.reason(); reason != "" {
		return nil, problem(http.StatusServiceUnavailable, controlapi.CodeInternal, "relay: "+reason, "restart the service")
	}
	if err := s.writable.check(ctx, s.store); err != nil {
		s.log.Error("not ready: the database takes no write", logkey.Err, err)
		return nil, problem(http.StatusServiceUnavailable, controlapi.CodeInternal, "the database takes no write", "look at the disk and the service's log")
	}
	return &healthOutput{Body: controlapi.Health{Status: "ready"}}, nil
}

// writeCheck tries the store at most once a second, however often it is asked.
type writeCheck struct {
	group singleflight.Group
	last  atomic.Pointer[writeResult]
}

type writeResult struct {
	at  time.Time
	err error
}

func (c *writeCheck) check(ctx context.Context, st interface{ CheckWritable(context.Context) error }) error {
	if r := c.last.Load(); r != nil && time.Since(r.at) < time.Second {
		return r.err
	}
	_, err, _ := c.group.Do("", func() (any, error) {
		// Others share the result: one client that goes must not spoil it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := st.CheckWritable(ctx)
		c.last.Store(&writeResult{at: time.Now(), err: err})
		return nil, err
	})
	return err
}

// failure is why a part of the service does not work now. It is safe for
// concurrent use.
type failure struct{ why atomic.Pointer[string] }

// note keeps what a part ended with, and returns it in words.
func (f *failure) note(err error) string {
	why := "it ended"
	if err != nil {
		why = err.Error()
	}
	f.why.Store(&why)
	return why
}

// reason is empty while the part works.
func (f *failure) reason() string {
	if why := f.why.Load(); why != nil {
		return *why
	}
	return ""
}
