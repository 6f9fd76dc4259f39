package controlclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
	"nexd/key"
)

// member is a joined device with its client.
func member(t *testing.T) (*controlclienttest.Fake, *controlclient.Client, controlapi.JoinResponse) {
	t.Helper()
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	return f, c, join(t, c, "self")
}

func TestWatchFollowsTheMembership(t *testing.T) {
	f, c, self := member(t)
	w := follow(t, c, self.Credential)
	snapshot := w.next(controlapi.EventSnapshot)
	if snapshot.Map.Self.ID != self.Device.ID || snapshot.Map.Network.Domain == "" {
		t.Errorf("snapshot %+v", snapshot.Map)
	}
	web := f.Put(controlapi.Device{Name: "web"})
	w.next(controlapi.EventDelta)
	f.Put(controlapi.Device{Name: "db"})
	w.next(controlapi.EventDelta)
	if got := w.peers(); !slices.Equal(got, []string{"web", "db"}) {
		t.Errorf("peers %v", got)
	}
	f.Remove(web.ID)
	w.next(controlapi.EventDelta)
	if got := w.peers(); !slices.Equal(got, []string{"db"}) {
		t.Errorf("peers %v", got)
	}
	w.next(controlapi.EventHeartbeat)
	w.stop()
	if err := w.ended(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// Cut and restarted, the stream goes on where it was: no second snapshot.
func TestWatchResumes(t *testing.T) {
	f, c, self := member(t)
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
	for i, outage := range []func(){
		f.CutStreams,
		func() { f.Stop(); f.Put(controlapi.Device{Name: "while-away"}); f.Start() },
		func() {
			f.Send(controlapi.Event{Type: controlapi.EventBye, Reason: controlapi.ByeShutdown})
			f.CutStreams()
		},
		func() { f.Send(controlapi.Event{Type: controlapi.EventBye, Reason: "something new"}) },
		c.Reconnect,
	} {
		w.connected()
		outage()
		if err := w.lost(); err == nil {
			t.Error("no reason")
		}
		name := fmt.Sprintf("peer-%d", i)
		f.Put(controlapi.Device{Name: name})
		for !slices.Contains(w.peers(), name) {
			if ev := <-w.events; ev.Type == controlapi.EventSnapshot {
				t.Errorf("outage %d: a second snapshot", i)
			}
		}
	}
	if got := w.peers(); !slices.Contains(got, "while-away") {
		t.Errorf("peers %v", got)
	}
}

// A cached map is resumed from; a service with another history says all anew.
func TestWatchResumesFromACachedMap(t *testing.T) {
	f, c, self := member(t)
	first := follow(t, c, self.Credential)
	cached := first.next(controlapi.EventSnapshot).Map
	first.stop()
	first.ended()
	f.Put(controlapi.Device{Name: "web"})
	resume := func(cfg *controlclient.WatchConfig) { cfg.Epoch, cfg.Since = cached.Epoch, cached.Revision }

	w := follow(t, c, self.Credential, resume)
	if ev := <-w.events; ev.Type != controlapi.EventDelta || ev.Delta.Upsert[0].Name != "web" {
		t.Errorf("began with %+v", ev)
	}
	w.stop()
	w.ended()

	f.NewEpoch()
	w = follow(t, c, self.Credential, resume)
	if ev := <-w.events; ev.Type != controlapi.EventSnapshot || ev.Map.Epoch == cached.Epoch {
		t.Errorf("began with %+v", ev)
	}
}

func TestWatchDeletedDevice(t *testing.T) {
	f, c, self := member(t)
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
	f.Remove(self.Device.ID)
	if err := w.ended(); !errors.Is(err, controlclient.ErrDeleted) {
		t.Errorf("ended with %v", err)
	}
	// It learns it as well when it was away at that moment.
	err := follow(t, c, self.Credential).ended()
	var refused *controlapi.Problem
	if !errors.Is(err, controlclient.ErrDeleted) || !errors.As(err, &refused) {
		t.Errorf("ended with %v", err)
	}
}

// Only the service's own word ends a membership, not that of a proxy before it.
func TestWatchUnauthorizedByAProxyIsNoDeletion(t *testing.T) {
	f, c, self := member(t)
	var asked atomic.Int32
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) > 2 {
			return false
		}
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
}

func TestWatchReplacedHoldsBack(t *testing.T) {
	f, c, self := member(t)
	w := follow(t, c, self.Credential, func(cfg *controlclient.WatchConfig) { cfg.ReplacedOnce = time.Hour })
	w.next(controlapi.EventSnapshot)
	f.Send(controlapi.Event{Type: controlapi.EventBye, Reason: controlapi.ByeReplaced})
	if err := w.lost(); !errors.Is(err, controlclient.ErrReplaced) {
		t.Errorf("lost by %v", err)
	}
	f.Wait("the stream to end", func() bool { return f.Streams() == 0 })
	c.Reconnect() // must not hurry it
	select {
	case err := <-w.states:
		t.Errorf("went on: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if n := f.Requests("GET /v1/watch"); n != 1 {
		t.Errorf("connected %d times", n)
	}
}

func TestWatchReplacedComesBack(t *testing.T) {
	f, c, self := member(t)
	w := follow(t, c, self.Credential, func(cfg *controlclient.WatchConfig) { cfg.ReplacedOnce = time.Millisecond })
	w.next(controlapi.EventSnapshot)
	f.Send(controlapi.Event{Type: controlapi.EventBye, Reason: controlapi.ByeReplaced})
	w.lost()
	w.connected()
}

func TestWatchNoticesSilence(t *testing.T) {
	f, c, self := member(t)
	f.SetHeartbeat(time.Hour)
	w := follow(t, c, self.Credential, func(cfg *controlclient.WatchConfig) { cfg.HeartbeatTimeout = 100 * time.Millisecond })
	w.connected()
	if err := w.lost(); !strings.Contains(err.Error(), "silent") {
		t.Errorf("lost by %v", err)
	}
	w.connected()
}

// A service that takes the request and says nothing at all is silent too.
func TestWatchNoticesSilenceBeforeTheAnswer(t *testing.T) {
	f, c, self := member(t)
	f.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	w := follow(t, c, self.Credential, func(cfg *controlclient.WatchConfig) { cfg.HeartbeatTimeout = 100 * time.Millisecond })
	if err := w.lost(); !strings.Contains(err.Error(), "silent") {
		t.Errorf("lost by %v", err)
	}
}

// A line that arrives slower than a heartbeat is due is no silence, as long as
// it arrives at all; a slow callee is none either.
func TestWatchSlowIsNotSilent(t *testing.T) {
	f, c, self := member(t)
	const beat = 1500 * time.Millisecond
	f.SetHeartbeat(time.Hour)
	f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/x-ndjson")
		line := fmt.Sprintf(`{"type":"snapshot","revision":1,"map":{"epoch":"e","revision":1,"self":{"id":"x","public_key":%q}}}`, self.Device.PublicKey)
		tick := time.NewTicker(beat / 5)
		defer tick.Stop()
		for _, part := range slices.Collect(slices.Chunk([]byte(line+"\n"), 20)) {
			w.Write(part)
			http.NewResponseController(w).Flush()
			<-tick.C
		}
		<-r.Context().Done()
		return true
	})
	w := follow(t, c, self.Credential, func(cfg *controlclient.WatchConfig) {
		cfg.HeartbeatTimeout = beat
		on := cfg.On
		cfg.On = func(ev controlapi.Event) {
			<-time.After(beat + beat/5)
			on(ev)
		}
	})
	w.next(controlapi.EventSnapshot)
	if n := f.Requests("GET /v1/watch"); n != 1 {
		t.Errorf("connected %d times", n)
	}
}

// Whatever comes, the stream is made anew and the map made good by a snapshot.
func TestWatchRubbish(t *testing.T) {
	for name, rubbish := range map[string][]byte{
		"garbage":               []byte("\x00\xff garbage\n"),
		"not an event":          []byte("[1,2,3]\n"),
		"a huge line":           append(bytes.Repeat([]byte("x"), 9<<20), '\n'),
		"a snapshot of nothing": []byte(`{"type":"snapshot"}` + "\n"),
		"a change of nothing":   []byte(`{"type":"delta","revision":7}` + "\n"),
		"a signal from nobody":  []byte(`{"type":"signal","signal":{"payload":"AAAA"}}` + "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			f, c, self := member(t)
			f.Put(controlapi.Device{Name: "web"})
			w := follow(t, c, self.Credential)
			w.next(controlapi.EventSnapshot)
			f.SendRaw(rubbish)
			if err := w.lost(); err == nil || len(err.Error()) > 1000 {
				t.Errorf("lost by %v", err)
			}
			w.next(controlapi.EventSnapshot)
			if got := w.peers(); !slices.Equal(got, []string{"web"}) {
				t.Errorf("peers %v", got)
			}
		})
	}
}

func TestWatchPassesOverWhatItDoesNotKnow(t *testing.T) {
	f, c, self := member(t)
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
	f.SendRaw([]byte("\n  \r\n" + `{"type":"of the future","map":3e7,"more":{}}` + "\n" + `{"type":"of the future"}` + "\n"))
	f.Put(controlapi.Device{Name: "web"})
	w.next(controlapi.EventDelta)
	if n := f.Requests("GET /v1/watch"); n != 1 {
		t.Errorf("connected %d times", n)
	}
}

// One device's bad record costs only that device.
func TestWatchLeavesBadDevicesOut(t *testing.T) {
	f, c, self := member(t)
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
	good := key.NewPrivate().Public()
	f.SendRaw(fmt.Appendf(nil, `{"type":"delta","revision":99,"delta":{"upsert":[`+
		`{"id":"a","name":"bad-key","public_key":"AAAA"},`+
		`{"id":"b","name":"bad-address","public_key":%[1]q,"addresses":["nonsense"]},`+
		`{"id":"c","name":"no-key"},{"name":"no-id","public_key":%[1]q},17,`+
		`{"id":"d","name":"good","public_key":%[1]q,"addresses":["100.64.0.9"]}]}}`+"\n", good))
	ev := w.next(controlapi.EventDelta)
	if len(ev.Delta.Upsert) != 1 || ev.Delta.Upsert[0].Name != "good" {
		t.Errorf("got %+v", ev.Delta.Upsert)
	}
	if got := w.peers(); !slices.Equal(got, []string{"good"}) {
		t.Errorf("peers %v", got)
	}
}

func TestWatchHonoursRetryAfter(t *testing.T) {
	f, c, self := member(t)
	var first atomic.Int64
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if !first.CompareAndSwap(0, time.Now().UnixNano()) {
			return false
		}
		w.Header().Set("Retry-After", "1")
		controlclienttest.Refuse(w, controlapi.Problem{Status: 503, Code: controlapi.CodeRateLimited, Detail: "too many streams"})
		return true
	})
	w := follow(t, c, self.Credential)
	w.connected()
	if waited := time.Since(time.Unix(0, first.Load())); waited < time.Second {
		t.Errorf("came back after %v", waited)
	}
}

func TestWatchNotAStream(t *testing.T) {
	f, c, self := member(t)
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		io.WriteString(w, "<html>welcome to this hotel")
		return true
	})
	w := follow(t, c, self.Credential)
	if err := w.lost(); !strings.Contains(err.Error(), "not look like a nexd service") {
		t.Errorf("lost by %v", err)
	}
	f.Intercept(nil)
	w.connected()
}

func TestReconnectEndsAWait(t *testing.T) {
	f, c, self := member(t)
	f.Stop()
	w := follow(t, c, self.Credential, func(cfg *controlclient.WatchConfig) { cfg.MinWait, cfg.MaxWait = time.Hour, time.Hour })
	w.lost()
	f.Start()
	c.Reconnect()
	w.connected()
}

// However long the service is away, nothing grows.
func TestWatchLongOutage(t *testing.T) {
	f, c, self := member(t)
	f.Stop()
	var tries atomic.Int64
	enough := make(chan struct{})
	var before, after runtime.MemStats
	follow(t, c, self.Credential, func(cfg *controlclient.WatchConfig) {
		cfg.MinWait, cfg.MaxWait = time.Microsecond, 2*time.Microsecond
		cfg.OnState = func(bool, error) {
			switch tries.Add(1) {
			case 100:
				runtime.GC()
				runtime.ReadMemStats(&before)
			case 1000: // as above, where no try is under way
				runtime.GC()
				runtime.ReadMemStats(&after)
				close(enough)
			}
		}
	})
	<-enough
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 512<<10 {
		t.Errorf("heap grew by %d bytes in 900 tries", grown)
	}
	if n := runtime.NumGoroutine(); n > 50 {
		t.Errorf("%d goroutines", n)
	}
}

func TestSignal(t *testing.T) {
	f, c, self := member(t)
	other := join(t, c, "other")
	sig := controlapi.Signal{To: other.Device.PublicKey, Payload: []byte("sealed")}
	if delivered, err := c.Signal(within(t, 10*time.Second), self.Credential, sig); err != nil || delivered {
		t.Errorf("to a device that is away: %t, %v", delivered, err)
	}
	w := follow(t, c, other.Credential)
	w.next(controlapi.EventSnapshot)
	if delivered, err := c.Signal(within(t, 10*time.Second), self.Credential, sig); err != nil || !delivered {
		t.Errorf("to a connected device: %t, %v", delivered, err)
	}
	if got := w.next(controlapi.EventSignal).Signal; got.From != self.Device.PublicKey || string(got.Payload) != "sealed" {
		t.Errorf("received %+v", got)
	}
	sig.Payload = make([]byte, controlapi.MaxSignal+1)
	if _, err := c.Signal(within(t, 10*time.Second), self.Credential, sig); err == nil {
		t.Error("a signal above the limit was sent")
	}
	f.Stop()
	if _, err := c.Signal(within(t, 10*time.Second), self.Credential, controlapi.Signal{To: sig.To}); err == nil || !strings.Contains(err.Error(), "refuses connections") {
		t.Errorf("without a service: %v", err)
	}
}

func TestLeave(t *testing.T) {
	_, c, self := member(t)
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
	for range 2 { // the second time it has left already
		if err := c.Leave(within(t, 10*time.Second), self.Credential); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.ended(); !errors.Is(err, controlclient.ErrDeleted) {
		t.Errorf("watch ended with %v", err)
	}
}

// A log is read by more people than a state directory; and one outage is one
// line, not one per try.
func TestLogsAreQuietAndKeepSecrets(t *testing.T) {
	f := controlclienttest.NewFake(t)
	var log lines
	c := client(t, f, func(cfg *controlclient.Config) {
		cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	p := params("web")
	f.Stop()
	tries := 0
	p.OnWait = func(error, time.Duration) {
		if tries++; tries == 2 {
			f.Start()
		}
	}
	self, err := c.Join(within(t, 20*time.Second), p)
	if err != nil {
		t.Fatal(err)
	}
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
	f.Stop()
	for range 20 {
		w.lost()
	}
	w.stop()
	w.ended()
	text := log.String()
	for name, secret := range map[string]string{"registration key": p.RegKey, "credential": self.Credential, "private key": p.Private.Reveal()} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s is in the log", name)
		}
	}
	refused := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, "refuses connections") {
			refused++
		}
	}
	if refused != 2 { // one of the join, one of the stream
		t.Errorf("%d warnings of one outage each for join and stream:\n%s", refused, text)
	}
}
