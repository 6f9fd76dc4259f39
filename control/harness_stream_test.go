package control

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
)

// watching is a client's end of a stream.
type watching struct {
	t      *testing.T
	events chan controlapi.Event // closed at the end of the stream
	// relays has the lists, which come between the events.
	relays chan *controlapi.RelayList
	types  typeLog
	stop   func()
}

// watch opens a stream; a refusal is returned.
func (w *world) watch(d device, query string) (*watching, *controlapi.Problem) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", w.base+"/v1/watch"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.Credential)
	res, err := w.http.Do(req)
	if err != nil {
		cancel()
		w.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		defer cancel()
		defer res.Body.Close()
		var p controlapi.Problem
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
			w.t.Fatal(err)
		}
		return nil, &p
	}
	for name, want := range map[string]string{"X-Accel-Buffering": "no", "Content-Type": "application/x-ndjson"} {
		if got := res.Header.Get(name); got != want && !w.nginx {
			w.t.Errorf("stream: %s is %q, want %q", name, got, want)
		}
	}
	out := &watching{t: w.t, events: make(chan controlapi.Event, 1024), relays: make(chan *controlapi.RelayList, 64)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(out.events)
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var e controlapi.Event
			if err := json.Unmarshal(line, &e); err != nil {
				w.t.Errorf("stream: %v in %s", err, line)
				return
			}
			out.types.add(e.Type)
			if e.Type == controlapi.EventRelays {
				select {
				case out.relays <- e.Relays:
				default:
					w.t.Error("stream: too many lists of relays")
				}
				continue
			}
			select {
			case out.events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	out.stop = func() { cancel(); <-done }
	w.t.Cleanup(out.stop)
	return out, nil
}

func (w *world) mustWatch(d device, query string) *watching {
	w.t.Helper()
	s, p := w.watch(d, query)
	if p != nil {
		w.t.Fatalf("watch: %v", p)
	}
	return s
}

// typeLog is the types of the events so far.
type typeLog struct {
	mu   sync.Mutex
	list []controlapi.EventType
}

func (l *typeLog) add(t controlapi.EventType) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, t)
}

// order returns the types of all events so far, lists of relays among them.
func (s *watching) order() []controlapi.EventType {
	s.types.mu.Lock()
	defer s.types.mu.Unlock()
	return slices.Clone(s.types.list)
}

// next returns the next event that is no heartbeat.
func (s *watching) next() controlapi.Event {
	s.t.Helper()
	for {
		e, ok := s.any()
		if !ok {
			s.t.Fatal("the stream ended")
		}
		if e.Type != controlapi.EventHeartbeat {
			return e
		}
	}
}

// any returns the next event, or false at the end.
func (s *watching) any() (controlapi.Event, bool) {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		return e, ok
	case <-time.After(patience):
		s.t.Fatal("no event")
	}
	return controlapi.Event{}, false
}

func (s *watching) expect(want controlapi.EventType) controlapi.Event {
	s.t.Helper()
	e := s.next()
	if e.Type != want {
		s.t.Fatalf("event %s, want %s", e.Type, want)
	}
	return e
}

// bye expects the goodbye and then the end.
func (s *watching) bye(reason string) {
	s.t.Helper()
	for {
		e := s.next()
		if e.Type != controlapi.EventBye {
			continue
		}
		if e.Reason != reason {
			s.t.Errorf("bye %s, want %s", e.Reason, reason)
		}
		break
	}
	for {
		if _, ok := s.any(); !ok {
			return
		}
	}
}
