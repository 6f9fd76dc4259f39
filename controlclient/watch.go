package controlclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"nexd/controlapi"
	"nexd/internal/logkey"
)

// WatchConfig is one device's stream. Times left zero have the defaults named.
type WatchConfig struct {
	Credential string
	// Epoch and Since are those of the cached map; empty: begin with a snapshot.
	Epoch string
	Since uint64
	// On gets every event but the service's goodbyes, in order, from the
	// goroutine of Watch. While it runs nothing is read, so TCP holds the
	// service back; nothing queues up here. The event is the callee's to keep.
	On func(controlapi.Event)
	// OnState is told when the stream begins (true, nil), when it ends and
	// after each failed try (false, why). It must not block. It may be nil.
	OnState func(connected bool, err error)

	HeartbeatTimeout time.Duration // silence that ends a stream; 45 s
	MinWait, MaxWait time.Duration // between streams; 200 ms, 30 s
	HealthyAfter     time.Duration // a stream this old starts waits anew; 10 s
	ReplacedWait     time.Duration // after another copy took over; 5 min
	ReplacedOnce     time.Duration // after the first time in a row; 5 s
}

func (w WatchConfig) withDefaults() WatchConfig {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&w.HeartbeatTimeout, 45*time.Second)
	def(&w.MinWait, minWait)
	def(&w.MaxWait, maxWait)
	def(&w.HealthyAfter, 10*time.Second)
	def(&w.ReplacedWait, 5*time.Minute)
	def(&w.ReplacedOnce, 5*time.Second)
	if w.OnState == nil {
		w.OnState = func(bool, error) {}
	}
	return w
}

// Why a stream ended, besides errors of the network.
var (
	errKicked   = errors.New("the network of this machine changed")
	errShutdown = errors.New("the service is shutting down")
	errSilent   = errors.New("the service fell silent")
)

// protocolError is a stream that broke the rules; what it said last is not
// built upon.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return "watch stream: " + e.what }

// watcher is the state of one Watch; one goroutine uses it.
//
//	       ┌───────────── wait ◀──────────────┐
//	       ▼                                  │ end, error, silence, bye
//	    connect ──200──▶ follow ──────────────┤
//	       │                │                 │
//	unauthorized        bye deleted      bye replaced: a wait, then long ones
//	       └──────▶ ErrDeleted ◀
type watcher struct {
	c *Client
	w WatchConfig
	// epoch and since are what the next stream begins after.
	epoch string
	since uint64
	// replaced counts goodbyes of that kind in a row.
	replaced int
	failures int
	hurries  *rate.Limiter // streams made at once for a Reconnect
	said     string        // text of the last warning
}

// Streams made at once for Reconnect: this many, then one in each hurryEvery.
const (
	maxHurries = 3
	hurryEvery = time.Second
)

// Watch follows the membership until ctx ends (it returns ctx's error) or the
// device is deleted (errors.Is ErrDeleted; where the service refused the
// credential, the *controlapi.Problem is in the chain too). Whatever else
// happens it connects again: after a wait that grows and is wholly random, as
// told by Retry-After, soon after an announced restart, at once after
// [Client.Reconnect]; and it resumes after the last revision it was told.
func (c *Client) Watch(ctx context.Context, cfg WatchConfig) error {
	w := watcher{c: c, w: cfg.withDefaults(), epoch: cfg.Epoch, since: cfg.Since, hurries: rate.NewLimiter(rate.Every(hurryEvery), maxHurries)}
	for {
		era := c.era() // before connecting: a kick in between must count
		after, err := w.stream(ctx, era)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrDeleted):
			c.log.Warn("watch stream ended for good", logkey.URL, c.URL(), logkey.Reason, err)
			return fmt.Errorf("watch %s: %w", c.URL(), err)
		}
		w.w.OnState(false, err)
		wait := w.wait(err, after)
		w.report(err, wait)
		if err := w.pause(ctx, era, wait, errors.Is(err, ErrReplaced)); err != nil {
			return err
		}
	}
}

// pause waits before the next stream. A Reconnect ends the wait, but a network
// that changes all the time must not make a stream each time: see hurries.
// After a replacement nothing ends it: hurrying would only make the two copies
// fight.
func (w *watcher) pause(ctx, era context.Context, wait time.Duration, replaced bool) error {
	if replaced {
		return sleep(ctx, wait, nil)
	}
	if err := sleep(ctx, wait, era.Done()); err != nil || era.Err() == nil {
		return err
	}
	return sleep(ctx, w.hurries.Reserve().Delay(), nil)
}

// wait says how long to hold back after err; after is the service's own wish.
func (w *watcher) wait(err error, after time.Duration) time.Duration {
	if !errors.Is(err, ErrReplaced) {
		w.replaced = 0
	}
	switch {
	case errors.Is(err, errKicked):
		w.failures = 0
		return 0
	case errors.Is(err, ErrReplaced):
		// The first time it may be a request of our own, from a connection that an
		// outage cut and that was still delivered when it was over. After that
		// doubled up to more than an hour: two copies take turns ever more rarely.
		w.replaced++
		if w.replaced == 1 {
			return spread(w.w.ReplacedOnce)
		}
		return spread(w.w.ReplacedWait << min(w.replaced-2, 4))
	case errors.Is(err, errShutdown):
		w.failures = 0
		return nextWait(w.w.MinWait, w.w.MaxWait, 3) // spread over ten times MinWait or so
	}
	wait := nextWait(w.w.MinWait, w.w.MaxWait, w.failures)
	w.failures++
	if after > 0 {
		wait = max(wait, spread(after))
	}
	return wait
}

// report writes a line per change of fortune, the rest at debug level.
func (w *watcher) report(err error, wait time.Duration) {
	level := w.c.log.Debug
	if text := err.Error(); text != w.said {
		level, w.said = w.c.log.Warn, text
		if errors.Is(err, errKicked) || errors.Is(err, errShutdown) {
			level = w.c.log.Info
		}
	}
	level("watch stream lost", logkey.URL, w.c.URL(), logkey.Err, err, logkey.Wait, wait.Round(time.Millisecond))
}

// stream makes one connection and follows it to its end. The error is never
// nil; after is the service's wish for the next try, or 0.
func (w *watcher) stream(ctx, era context.Context) (after time.Duration, err error) {
	s, after, err := w.c.open(ctx, era, w.w, w.epoch, w.since)
	if err != nil {
		p, refused := asProblem(err)
		switch {
		case isUnauthorized(err):
			return 0, fmt.Errorf("%w: %w", ErrDeleted, err)
		case refused && p.Code == controlapi.CodeInvalid:
			w.epoch, w.since = "", 0 // perhaps it is the place to resume from
		}
		return after, err
	}
	defer s.close()
	w.said = ""
	w.c.log.Info("watch stream connected", logkey.URL, w.c.URL(), logkey.Revision, w.since)
	w.w.OnState(true, nil)
	err = w.follow(s)
	if s.lines > 0 && s.age() >= w.w.HealthyAfter {
		w.failures = 0
	}
	if broken := (*protocolError)(nil); errors.As(err, &broken) {
		w.epoch, w.since = "", 0 // a snapshot makes good what was lost
	}
	return 0, err
}

// follow hands on events until the stream ends.
func (w *watcher) follow(s *stream) error {
	for {
		ev, err := s.next()
		if err != nil {
			return err
		}
		switch ev.Type {
		case controlapi.EventSnapshot:
			w.epoch, w.since = ev.Map.Epoch, ev.Map.Revision
		case controlapi.EventDelta:
			if w.epoch == "" {
				return &protocolError{"a change came before the snapshot it changes"}
			}
			w.since = max(w.since, ev.Revision)
		case controlapi.EventHeartbeat:
			if w.epoch != "" {
				w.since = max(w.since, ev.Revision)
			}
		case controlapi.EventSignal, controlapi.EventRelays:
		case controlapi.EventBye:
			return goodbye(ev.Reason)
		default:
			continue // of a later version; it showed that the service lives
		}
		w.w.On(ev)
	}
}

// goodbye turns the service's reason into an error.
func goodbye(reason string) error {
	switch reason {
	case controlapi.ByeDeleted:
		return ErrDeleted
	case controlapi.ByeReplaced:
		return ErrReplaced
	case controlapi.ByeShutdown:
		return errShutdown
	}
	return fmt.Errorf("the service ended the stream: %s", printable(reason))
}
