package control

import (
	"bufio"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/control/store/storetest"
	"nexd/controlapi"
	"nexd/key"
)

func names(ds []controlapi.Device) (out []string) {
	for _, d := range ds {
		out = append(out, d.Name)
	}
	return out
}

func since(m *controlapi.Map, revision uint64) string {
	return fmt.Sprintf("?epoch=%s&since=%d", m.Epoch, revision)
}

func TestWatch(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.Heartbeat = 20 * time.Millisecond })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a := w.join(wish(secret, "a"))
	s := w.mustWatch(a, "")
	m := s.expect(controlapi.EventSnapshot).Map
	if m.Self.ID != a.Device.ID || len(m.Peers) != 0 || m.Revision == 0 || len(m.STUN) != 1 || m.Network.ID != a.Network.ID {
		t.Errorf("map %+v", m)
	}
	b := w.join(wish(secret, "b"))
	e := s.expect(controlapi.EventDelta)
	if e.Revision <= m.Revision || len(e.Delta.Upsert) != 1 || e.Delta.Upsert[0].ID != b.Device.ID || e.Delta.Self != nil {
		t.Errorf("b joins: %+v", e.Delta)
	}
	if beat, ok := s.any(); !ok || beat.Type != controlapi.EventHeartbeat || beat.Revision != e.Revision {
		t.Errorf("in place of a heartbeat: %+v", beat)
	}
	w.admin("PATCH", "/v1/devices/a", map[string]any{"tags": []string{"x"}}, nil)
	e = s.expect(controlapi.EventDelta)
	if e.Delta.Self == nil || e.Delta.Self.Tags[0] != "x" || len(e.Delta.Upsert) != 0 {
		t.Errorf("a changes: %+v", e.Delta)
	}

	t.Run("deletion", func(t *testing.T) {
		bs := w.mustWatch(b, "")
		if got := names(bs.expect(controlapi.EventSnapshot).Map.Peers); len(got) != 1 || got[0] != "a" {
			t.Errorf("b's peers: %v", got)
		}
		w.admin("DELETE", "/v1/devices/b", nil, nil)
		bs.bye(controlapi.ByeDeleted)
		gone := s.expect(controlapi.EventDelta)
		if len(gone.Delta.Remove) != 1 || gone.Delta.Remove[0] != b.Device.ID {
			t.Errorf("a is told %+v", gone.Delta)
		}
		_, p := w.watch(b, "")
		w.refused(p, controlapi.CodeUnauthorized)
		p, _ = w.send("POST", "/v1/signals", b.Credential, controlapi.Signal{To: a.private.Public(), Payload: []byte("x")}, nil)
		w.refused(p, controlapi.CodeUnauthorized)
	})
	t.Run("deletion within a second", func(t *testing.T) {
		shortest := time.Hour // of some: a machine that stands still for once says nothing
		for range 5 {
			w.join(wish(secret, "c"))
			s.expect(controlapi.EventDelta)
			begin := time.Now()
			w.admin("DELETE", "/v1/devices/c", nil, nil)
			s.expect(controlapi.EventDelta)
			shortest = min(shortest, time.Since(begin))
		}
		if shortest > time.Second {
			t.Errorf("it took %v", shortest)
		}
	})
	t.Run("newer stream", func(t *testing.T) {
		newer := w.mustWatch(a, "")
		newer.expect(controlapi.EventSnapshot)
		s.bye(controlapi.ByeReplaced)
		w.join(wish(secret, "c"))
		newer.expect(controlapi.EventDelta)
	})
}

func TestResume(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir, func(c *Config) { c.KeepTombstones = 1 })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b, c := w.join(wish(secret, "a")), w.join(wish(secret, "b")), w.join(wish(secret, "c"))
	s := w.mustWatch(a, "")
	m := s.expect(controlapi.EventSnapshot).Map

	again := w.mustWatch(a, since(m, m.Revision))
	if e, _ := again.any(); e.Type != controlapi.EventHeartbeat || e.Revision != m.Revision {
		t.Errorf("current: %+v", e)
	}
	again.stop()
	w.admin("DELETE", "/v1/devices/b", nil, nil)
	d := w.join(wish(secret, "d"))
	e := w.mustWatch(a, since(m, m.Revision)).next()
	if e.Type != controlapi.EventDelta || len(e.Delta.Remove) != 1 || e.Delta.Remove[0] != b.Device.ID ||
		len(e.Delta.Upsert) != 1 || e.Delta.Upsert[0].ID != d.Device.ID || e.Delta.Self != nil {
		t.Errorf("resumed: %+v", e)
	}
	for what, query := range map[string]string{
		"another epoch": "?epoch=other&since=" + fmt.Sprint(m.Revision), "ahead": since(m, 1000), "nothing": "", "zero": since(m, 0),
	} {
		if e := w.mustWatch(a, query).next(); e.Type != controlapi.EventSnapshot || len(e.Map.Peers) != 2 {
			t.Errorf("%s: %+v", what, e)
		}
	}
	if _, p := w.watch(a, "?since=-1"); p == nil || p.Code != controlapi.CodeInvalid {
		t.Errorf("negative revision: %v", p)
	}

	// Restarted, the service goes on from where it was.
	last := w.mustWatch(c, "")
	last.expect(controlapi.EventSnapshot)
	w.admin("DELETE", "/v1/devices/d", nil, nil)
	last.expect(controlapi.EventDelta)
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	last.bye(controlapi.ByeShutdown)
	w = start(t, dir, func(c *Config) { c.KeepTombstones = 1 })
	now := w.mustWatch(c, "").expect(controlapi.EventSnapshot).Map
	if now.Epoch != m.Epoch || now.Self.ID != c.Device.ID || len(now.Peers) != 1 {
		t.Errorf("after the restart: %+v", now)
	}
	if e, _ := w.mustWatch(a, since(m, now.Revision)).any(); e.Type != controlapi.EventHeartbeat {
		t.Errorf("current after the restart: %+v", e)
	}
	// Only the newest deletion is remembered: what was before needs a snapshot.
	if e := w.mustWatch(a, since(m, m.Revision)).next(); e.Type != controlapi.EventSnapshot {
		t.Errorf("forgotten: %+v", e)
	}
}

// A stream that is too far behind gets one snapshot in place of what it missed.
func TestOverflow(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.QueueLength = 2; c.WriteTimeout = time.Minute })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a := w.join(wish(secret, "a"))
	st := newStream(store.Device{ID: a.Device.ID, PublicKey: a.Device.PublicKey}) // a stream whose handler sleeps
	w.svc.hub.open(st, time.Now())
	for i := range 5 {
		w.join(wish(secret, fmt.Sprint("d", i)))
	}
	if b := st.take(); !b.behind || len(b.changes) != 0 {
		t.Errorf("behind %v with %d changes", b.behind, len(b.changes))
	}
	w.svc.hub.end(st, time.Now())

	s := w.mustWatch(a, "")
	s.expect(controlapi.EventSnapshot)
	w.svc.hub.mu.Lock()
	w.svc.hub.streams[a.Device.ID].resync()
	w.svc.hub.mu.Unlock()
	if m := s.expect(controlapi.EventSnapshot).Map; len(m.Peers) != 5 {
		t.Errorf("%d peers", len(m.Peers))
	}
}

// A client that does not read is dropped, and holds nobody up. Over HTTP/1.1 it
// takes 5 s more: TLS gives its own goodbye that long.
func TestSlowReader(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.WriteTimeout = 300 * time.Millisecond; c.Heartbeat = time.Hour })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	c := w.h1()
	fmt.Fprintf(c, "GET /v1/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", a.Credential)
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	payload := make([]byte, controlapi.MaxSignal)
	eventually(t, "the slow reader is dropped", func() bool {
		for range maxSignals {
			w.svc.hub.deliver(b.private.Public(), a.private.Public(), payload)
		}
		return !w.svc.hub.connected(a.Device.ID)
	})
}

// Streams of HTTP/1.1 outlive every deadline of ordinary requests.
func TestStreamOverHTTP1(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.Heartbeat = 10 * time.Millisecond })
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	c := w.h1()
	fmt.Fprintf(c, "GET /v1/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", a.Credential)
	c.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(res.Body)
	for range 20 {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
	}
	c.Close()
	eventually(t, "the stream ends with its client", func() bool { return !w.svc.hub.connected(a.Device.ID) })
}

// A stream lasts longer than the time for one write, however little is said.
func TestQuietStreamLasts(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.WriteTimeout = 300 * time.Millisecond; c.Heartbeat = 600 * time.Millisecond })
	s := w.mustWatch(w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a")), "")
	s.expect(controlapi.EventSnapshot)
	for range 2 {
		if e, ok := s.any(); !ok || e.Type != controlapi.EventHeartbeat {
			t.Fatalf("in place of a heartbeat: %+v, %v", e, ok)
		}
	}
}

// Everybody sees everybody in the end, whoever joins and leaves meanwhile.
func TestManyStreams(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.QueueLength = 4 })
	secret := w.regKey(controlapi.RegKeyRequest{})
	const n = 20
	streams := make([]*watching, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			d, p := w.tryJoin(key.NewPrivate(), wish(secret, fmt.Sprint("d", i)))
			if p != nil {
				t.Error(p)
				return
			}
			if i%5 == 4 {
				if p, _ := w.send("DELETE", "/v1/self", d.Credential, nil, nil); p != nil {
					t.Error(p)
				}
				return
			}
			if streams[i], p = w.watch(d, ""); p != nil {
				t.Error(p)
			}
		})
	}
	wg.Wait()
	for i, s := range streams {
		if s == nil {
			continue
		}
		peers, revision := map[string]bool{}, uint64(0)
		for len(peers) != n-n/5-1 || revision < n+n/5 {
			e := s.next()
			revision = e.Revision
			switch e.Type {
			case controlapi.EventSnapshot:
				clear(peers)
				for _, d := range e.Map.Peers {
					peers[d.ID] = true
				}
			case controlapi.EventDelta:
				for _, d := range e.Delta.Upsert {
					peers[d.ID] = true
				}
				for _, id := range e.Delta.Remove {
					delete(peers, id)
				}
			default:
				t.Fatalf("stream %d: %+v", i, e)
			}
		}
	}
}

// A record that cannot be read costs its own device only.
func TestDamagedRecordIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir)
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	bad := w.join(wish(secret, "bad"))
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	storetest.SpoilDevice(t, filepath.Join(dir, databaseFile), bad.Device.ID, "name", "Bad Name")
	w = start(t, dir)
	s := w.mustWatch(a, "")
	if got := names(s.expect(controlapi.EventSnapshot).Map.Peers); len(got) != 1 || got[0] != "b" {
		t.Errorf("a's peers: %v", got)
	}
	w.join(wish(secret, "c"))
	s.expect(controlapi.EventDelta)
	w.mustWatch(b, "").expect(controlapi.EventSnapshot)
	_, p := w.watch(bad, "")
	w.refused(p, controlapi.CodeInternal)
	var list controlapi.DeviceList
	w.admin("GET", "/v1/devices", nil, &list)
	if len(list.Devices) != 3 {
		t.Errorf("%d devices", len(list.Devices))
	}
	w.admin("DELETE", "/v1/devices/"+bad.Device.ID, nil, nil)
}
