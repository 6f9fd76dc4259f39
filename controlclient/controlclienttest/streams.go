package controlclienttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// stream is one open watch.
type stream struct {
	device string
	public key.Public
	lines  chan []byte   // as they go out
	cut    chan struct{} // closed to end the connection
}

// queueLength is how many lines a stream may lag behind; then it is cut.
const queueLength = 1024

// send queues bytes; Fake.mu is held.
func (f *Fake) send(s *stream, line []byte) {
	select {
	case s.lines <- line:
	default:
		f.drop(s)
	}
}

// drop ends a stream; Fake.mu is held.
func (f *Fake) drop(s *stream) {
	if _, open := f.streams[s]; open {
		delete(f.streams, s)
		close(s.cut)
		f.announce()
	}
}

func encode(ev controlapi.Event) []byte {
	b, err := json.Marshal(ev)
	if err != nil {
		panic(fmt.Sprintf("controlclienttest: encode event: %v", err))
	}
	return append(b, '\n')
}

// Put makes d a member, or changes it, and tells every stream. Where ID is
// empty, a fresh device with d's name and key (or a fresh key) is made.
func (f *Fake) Put(d controlapi.Device) controlapi.Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.put(d)
}

func (f *Fake) put(d controlapi.Device) controlapi.Device {
	if d.ID == "" {
		if d.PublicKey.IsZero() {
			d.PublicKey = key.NewPrivate().Public()
		}
		d = f.network.fresh(d.Name, d.PublicKey, netip.Addr{})
	}
	f.tell(f.network.put(d))
	return d
}

// Remove deletes a device: its streams end with a goodbye, the others hear of it.
func (f *Fake) Remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays.deny(f.network.devices[id].PublicKey)
	ev := f.network.remove(id)
	for s := range f.streams {
		if s.device == id {
			f.send(s, encode(controlapi.Event{Type: controlapi.EventBye, Reason: controlapi.ByeDeleted}))
		}
	}
	f.tell(ev)
}

// tell sends a delta to every stream; mu is held.
func (f *Fake) tell(ev controlapi.Event) {
	for s := range f.streams {
		f.send(s, encode(forDevice(ev, s.device)))
	}
}

// NewEpoch starts revisions anew, as another database does.
func (f *Fake) NewEpoch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.network.epoch += "'"
	f.network.revision, f.network.log = 0, nil
}

// Send says ev to every stream.
func (f *Fake) Send(ev controlapi.Event) { f.SendRaw(encode(ev)) }

// SendRaw writes bytes to every stream, as they are.
func (f *Fake) SendRaw(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		f.send(s, b)
	}
}

// CutStreams ends every stream without a word.
func (f *Fake) CutStreams() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		f.drop(s)
	}
}

// Streams returns how many streams are open.
func (f *Fake) Streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.streams)
}

// Revision returns the present revision.
func (f *Fake) Revision() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.network.revision
}

// watch serves one stream until either side ends it.
func (f *Fake) watch(w http.ResponseWriter, r *http.Request, id string) {
	since, _ := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64)
	s := &stream{device: id, lines: make(chan []byte, queueLength), cut: make(chan struct{})}
	f.mu.Lock()
	s.public = f.network.devices[id].PublicKey
	first := f.network.since(id, r.URL.Query().Get("epoch"), since)
	if f.relays.told {
		first = append(first, f.relays.event(s.public))
	}
	beat := f.heartbeat
	f.streams[s] = struct{}{}
	f.announce()
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.drop(s)
		f.mu.Unlock()
	}()

	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	for _, ev := range first {
		w.Write(encode(ev))
	}
	out.Flush()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		var line []byte
		select {
		case line = <-s.lines:
		case <-ticker.C:
			line = encode(controlapi.Event{Type: controlapi.EventHeartbeat, Revision: f.Revision()})
		case <-s.cut:
			panic(http.ErrAbortHandler) // no proper end of the body
		case <-r.Context().Done():
			return
		}
		if _, err := w.Write(line); err != nil || out.Flush() != nil {
			return
		}
	}
}
