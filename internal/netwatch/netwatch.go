package netwatch

import (
	"context"
	"log/slog"
	"time"

	"nexd/internal/logkey"
)

// Reasons, the weightiest first.
const (
	Resume  = "resume"  // the machine slept, or its clock was set forward
	Link    = "link"    // an interface began or ceased to work
	Address = "address" // an address came, went, or may now be used
	Route   = "route"   // a route of the main table came, went or leads elsewhere
)

const (
	// tick is how often the clocks are compared, and the addresses where the
	// kernel does not tell of changes.
	tick = 2 * time.Second
)

// Config is what a [Watcher] is made of.
type Config struct {
	// OnChange is told that the network may have changed, and why: [Resume],
	// [Link], [Address] or [Route]. It is called from Run, one call at a time;
	// while it runs, further changes gather. Required.
	OnChange func(reason string)
	// Log is told at the debug level what cannot be watched; nil: nobody.
	Log *slog.Logger
}

// Watcher watches the network of this machine.
type Watcher struct {
	onChange func(reason string)
	log      *slog.Logger

	// open listens to the kernel; of tests.
	open func() (source, error)
}

// source is the kernel's news.
type source interface {
	// run calls changed for each one until close is called, and returns why it
	// ended. changed must not block.
	run(changed func(reason)) error
	close()
}

// New returns a watcher; Run starts it.
func New(c Config) *Watcher {
	w := &Watcher{onChange: c.OnChange, log: c.Log, open: openKernel}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	return w
}

// Run watches until ctx ends, and returns nil. It looks at the network
// namespace of the thread it was called on.
func (w *Watcher) Run(ctx context.Context) error {
	news := news{poke: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	kernel, err := w.open()
	if err == nil {
		defer func() {
			kernel.close()
			<-ended
		}()
		go func() {
			ended <- kernel.run(news.put)
			close(ended)
		}()
	} else {
		w.log.Debug("the kernel does not tell of network changes: comparing addresses", logkey.Err, err)
	}
	w.loop(ctx, &news, ended, err != nil)
	return nil
}

// loop gathers the news; with poll it looks for them itself.
func (w *Watcher) loop(ctx context.Context, news *news, ended <-chan error, poll bool) {
	var (
		gathered burst
		clocks   = newClocks(time.Now())
		before   = snapshot(poll)
		ticker   = time.NewTicker(tick)
		quiet    = time.NewTimer(time.Hour)
	)
	defer ticker.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-news.poke:
			gathered.add(news.take(), time.Now())
		case err, running := <-ended:
			ended = nil
			if running {
				w.log.Debug("the kernel no longer tells of network changes: comparing addresses", logkey.Err, err)
			}
			poll, before = true, snapshot(true)
			gathered.add(reasonAddress, time.Now()) // the last one may have been lost
		case now := <-ticker.C:
			if clocks.slept(now) {
				gathered.add(reasonResume, time.Now())
			}
			if poll {
				next := snapshot(true)
				if r := before.changed(next); r != 0 {
					gathered.add(r, time.Now())
				}
				before = next
			}
		case <-quiet.C:
		}
		if r, ok := gathered.take(time.Now()); ok {
			w.onChange(r.String())
		}
		if due, ok := gathered.due(); ok {
			quiet.Reset(time.Until(due))
		}
	}
}
