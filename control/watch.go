package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
)

type watchInput struct {
	Epoch string `query:"epoch" maxLength:"64" doc:"epoch of the map the device has"`
	Since uint64 `query:"since" doc:"revision of that map; 0 or left out: none"`
}

// watch answers with a device's stream. It ends when the client goes, reads
// too slowly, or is told bye.
func (s *Service) watch(ctx context.Context, in *watchInput) (*huma.StreamResponse, error) {
	d := deviceFrom(ctx)
	if err := s.limit(s.streams, "watch", d.ID); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		if err := s.serveStream(r, w, d, in); err != nil {
			s.log.Debug("stream ended", logkey.Device, d.Name, logkey.Err, err)
		}
	}}, nil
}

func (s *Service) serveStream(r *http.Request, w http.ResponseWriter, d store.Device, in *watchInput) error {
	ctx := r.Context()
	st := newStream(d)
	if !s.hub.open(st, time.Now()) {
		writeProblem(w, problem(http.StatusServiceUnavailable, controlapi.CodeInternal, "the service is shutting down", "connect again"))
		return nil
	}
	defer func() { s.hub.end(st, time.Now()) }()
	// Registered first, checked again then: a deletion or a new credential in
	// between is seen by one side or the other.
	if now, err := s.store.Authenticate(ctx, d.Credential); err != nil || now.ID != d.ID {
		if err == nil || errors.Is(err, store.ErrNotFound) {
			writeProblem(w, unauthorized("this device is no longer a member"))
			return nil
		}
		writeProblem(w, s.internal("open stream", err))
		return nil
	}
	s.hub.sync(ctx) // a device that joined a moment ago is in its own map
	first, ok := s.hub.resume(ctx, d.ID, in.Epoch, in.Since)
	if !ok {
		writeProblem(w, unauthorized("this device is no longer a member"))
		return nil
	}
	out := eventWriter{w: w, rc: http.NewResponseController(w), timeout: s.cfg.WriteTimeout, metrics: s.metrics}
	if err := out.begin(); err != nil {
		return err
	}
	if err := out.event(first); err != nil {
		return err
	}
	if err := s.sendRelays(st, &out); err != nil {
		return err
	}
	return s.follow(ctx, st, &out, first.Revision)
}

// follow sends what comes into st. The client knows everything up to sent.
func (s *Service) follow(ctx context.Context, st *stream, out *eventWriter, sent uint64) error {
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	renew := time.NewTicker(s.cfg.RelayRenew)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := out.event(controlapi.Event{Type: controlapi.EventHeartbeat, Revision: sent}); err != nil {
				return err
			}
			continue
		case <-renew.C:
			if err := s.sendRelays(st, out); err != nil {
				return err
			}
			continue
		case <-st.wake:
		}
		b := st.take()
		if b.bye != "" {
			return out.event(controlapi.Event{Type: controlapi.EventBye, Reason: b.bye})
		}
		for _, sig := range b.signals {
			if err := out.event(controlapi.Event{Type: controlapi.EventSignal, Signal: &sig}); err != nil {
				return err
			}
		}
		if b.behind {
			m, ok := s.hub.snapshot(st.id)
			if !ok {
				return out.event(controlapi.Event{Type: controlapi.EventBye, Reason: controlapi.ByeDeleted})
			}
			if err := out.event(controlapi.Event{Type: controlapi.EventSnapshot, Revision: m.Revision, Map: m}); err != nil {
				return err
			}
			sent = m.Revision
		}
		if b.relays {
			if err := s.sendRelays(st, out); err != nil {
				return err
			}
		}
		for _, c := range b.changes {
			if c.revision <= sent {
				continue
			}
			if err := out.change(c, st.id); err != nil {
				return err
			}
			sent = c.revision
		}
	}
}

// sendRelays tells a device which relays there are, with a fresh credential.
func (s *Service) sendRelays(st *stream, out *eventWriter) error {
	return out.event(controlapi.Event{Type: controlapi.EventRelays, Relays: s.relays.listFor(s.hub.network.ID, st.key, time.Now())})
}

// eventWriter writes lines, each within its own deadline: the server has none
// for whole answers, so that streams last.
type eventWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	metrics *metrics
}

func (o *eventWriter) begin() error {
	h := o.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the lines back
	if err := o.rc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	o.w.WriteHeader(http.StatusOK)
	return nil
}

func (o *eventWriter) change(c *change, id string) error {
	if c.line == nil || c.indexOf(id) >= 0 {
		return o.event(c.eventFor(id))
	}
	return o.line(c.line, controlapi.EventDelta)
}

func (o *eventWriter) event(e controlapi.Event) error {
	line, err := encodeEvent(e)
	if err != nil {
		return err
	}
	return o.line(line, e.Type)
}

func (o *eventWriter) line(line []byte, kind controlapi.EventType) error {
	if err := o.rc.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
		return err
	}
	if _, err := o.w.Write(line); err != nil {
		return err
	}
	if err := o.rc.Flush(); err != nil {
		return err
	}
	o.metrics.events.WithLabelValues(string(kind)).Inc()
	// HTTP/2 ends a stream at its deadline even when nothing is being written.
	return o.rc.SetWriteDeadline(time.Time{})
}
