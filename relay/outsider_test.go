package relay

import (
	"testing"
	"time"

	"github.com/coder/websocket"

	"nexd/key"
)

// frozen is a relay whose clock stands still: no budget is filled up again.
func frozen(r *testRelay) {
	at := time.Now()
	r.clock = func() time.Time { return at }
}

// pour sends a frame n times over a WebSocket.
func pour(t *testing.T, ws *websocket.Conn, frame []byte, n int) {
	t.Helper()
	const each = 250
	var message []byte
	for range each {
		message = appendFramed(message, frame, nil)
	}
	for range n / each {
		if err := ws.Write(t.Context(), websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
	}
}

// Who connects and asks for cookies without end gets few, and takes none from
// those who come by UDP.
func TestCookiesByTLSAreBounded(t *testing.T) {
	r := newRelay(t, frozen)
	ws := r.dialTLS()
	defer ws.CloseNow()
	const sent = 60_000 // more than the relay gives to all in a second
	pour(t, ws, appendHello(nil, randomNonce()), sent)
	waitFor(t, "the relay to have seen them", func() bool {
		st := r.server.Stats()
		return st.Challenges+st.Dropped[DropBudget] >= sent
	})
	if st := r.server.Stats(); st.Challenges > 100 {
		t.Errorf("%d challenges for one connection", st.Challenges)
	}
	device := key.NewPrivate()
	r.raw(device, r.service.credential(device.Public(), "net", time.Hour)).join()
}

// Proofs cost the relay time, so a connection has few of them to get wrong.
func TestProofsByTLSAreBounded(t *testing.T) {
	r := newRelay(t, frozen)
	ws := r.dialTLS()
	defer ws.CloseNow()
	foreign := newService(t)
	device := key.NewPrivate()
	x := r.raw(device, foreign.credential(device.Public(), "net", time.Hour))
	x.start(time.Now(), x.cred)
	if err := ws.Write(t.Context(), websocket.MessageBinary, appendFramed(nil, x.out[0], nil)); err != nil {
		t.Fatal(err)
	}
	_, message, err := ws.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	challenge, _, err := nextFramed(message)
	if err != nil {
		t.Fatal(err)
	}
	x.handle(time.Now(), challenge)
	const sent = 5000
	pour(t, ws, x.out[len(x.out)-1], sent)
	waitFor(t, "the relay to have seen them", func() bool {
		st := r.server.Stats()
		return st.Refused[RefusedCredential]+st.Dropped[DropBudget] >= sent
	})
	if st := r.server.Stats(); st.Refused[RefusedCredential] > 100 {
		t.Errorf("%d proofs of one connection were checked", st.Refused[RefusedCredential])
	}
}
