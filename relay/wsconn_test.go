package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// fed is a connection whose other side has said something already.
type fed struct {
	in   io.Reader
	out  bytes.Buffer
	step int // bytes a read returns at most; 0: as many as there is room for
}

func (f *fed) Read(b []byte) (int, error) {
	if f.step > 0 {
		b = b[:min(len(b), f.step)]
	}
	return f.in.Read(b)
}

func (f *fed) Write(b []byte) (int, error) { return f.out.Write(b) }
func (f *fed) Close() error                { return nil }

// readAll reads messages to the end.
func readAll(client bool, in []byte, step int) (messages [][]byte, answers []byte, err error) {
	f := &fed{in: bytes.NewReader(in), step: step}
	w := &wsConn{rw: f, client: client}
	for err == nil {
		err = w.read(func(m []byte) error {
			messages = append(messages, bytes.Clone(m))
			return nil
		})
	}
	w.refuse(err)
	if w.room != nil {
		panic("a connection that ended has a buffer")
	}
	return messages, f.out.Bytes(), err
}

// wsFrame makes a frame as the other side would.
func wsFrame(first byte, masked bool, payload string) []byte {
	room := append(make([]byte, maxWSHeader), payload...)
	key := [4]byte{1, 2, 3, 4}
	if masked {
		mask(room[maxWSHeader:], key)
	}
	start := putWSHeader(room, maxWSHeader, first&0x0F, masked, key)
	room[start] = first
	return room[start:]
}

func TestWSReads(t *testing.T) {
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	frame := func(first byte, payload string) []byte { return wsFrame(first, true, payload) }
	long := strings.Repeat("x", maxMessage)
	for name, c := range map[string]struct {
		in      []byte
		want    []string
		answers []byte
		code    uint16 // of the closing frame; 0: none of ours
	}{
		"one":                 {frame(0x82, "hello"), []string{"hello"}, nil, 0},
		"empty":               {frame(0x82, ""), []string{""}, nil, 0},
		"three":               {cat(frame(0x82, "a"), frame(0x82, strings.Repeat("b", 126)), frame(0x82, long)), []string{"a", strings.Repeat("b", 126), long}, nil, 0},
		"in parts":            {cat(frame(0x02, "a"), frame(0x00, "b"), frame(0x80, "c"), frame(0x82, "d")), []string{"abc", "d"}, nil, 0},
		"empty parts":         {cat(frame(0x02, ""), frame(0x80, "")), []string{""}, nil, 0},
		"ping between":        {cat(frame(0x02, "a"), frame(0x89, "p"), frame(0x80, "b")), []string{"ab"}, wsFrame(0x8A, false, "p"), 0},
		"pong":                {cat(frame(0x8A, ""), frame(0x82, "a")), []string{"a"}, nil, 0},
		"close":               {cat(frame(0x82, "a"), frame(0x88, "\x03\xe8why"), frame(0x82, "b")), []string{"a"}, wsFrame(0x88, false, "\x03\xe8"), 0},
		"cut":                 {frame(0x82, "hello")[:8], nil, nil, 0},
		"text":                {frame(0x81, "a"), nil, nil, wsUnsupported},
		"reserved bit":        {frame(0xC2, "a"), nil, nil, wsProtocol},
		"reserved opcode":     {frame(0x83, "a"), nil, nil, wsProtocol},
		"not masked":          {wsFrame(0x82, false, "a"), nil, nil, wsProtocol},
		"ping in parts":       {frame(0x09, "a"), nil, nil, wsProtocol},
		"long ping":           {frame(0x89, strings.Repeat("a", 126)), nil, nil, wsProtocol},
		"continues nothing":   {frame(0x80, "a"), nil, nil, wsProtocol},
		"begins in the midst": {cat(frame(0x02, "a"), frame(0x82, "b")), nil, nil, wsProtocol},
		"too long":            {frame(0x82, long+"x")[:20], nil, nil, wsMessageLarge},
		"too long in parts":   {cat(frame(0x02, long), frame(0x80, "x")), nil, nil, wsMessageLarge},
		"negative length":     {[]byte{0x82, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, nil, wsMessageLarge},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{0, 1, 7, 4096} {
				got, answers, _ := readAll(false, c.in, step)
				if len(got) != len(c.want) {
					t.Fatalf("by %d: %d messages", step, len(got))
				}
				for i := range got {
					if string(got[i]) != c.want[i] {
						t.Errorf("by %d: message %d is %.40q", step, i, got[i])
					}
				}
				want := c.answers
				if c.code != 0 {
					want = wsFrame(0x88, false, string([]byte{byte(c.code >> 8), byte(c.code)}))
				}
				if !bytes.Equal(answers, want) {
					t.Errorf("by %d: answers %x, want %x", step, answers, want)
				}
			}
		})
	}
}

func TestWSMask(t *testing.T) {
	key := [4]byte{0xA1, 0x52, 3, 0xF4}
	for n := range 300 {
		b := make([]byte, n+5)
		rand.Read(b)
		got, want := bytes.Clone(b[5:]), bytes.Clone(b[5:])
		mask(got, key)
		for i := range want {
			want[i] ^= key[i%4]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

// The library's server understands our client, and ours its messages.
func TestWSWithTheLibrary(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(maxMessage)
		for {
			kind, message, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			part, err := ws.Writer(r.Context(), kind) // in parts: a frame each
			if err != nil {
				return
			}
			half := len(message) / 2
			part.Write(message[:half])
			part.Write(message[half:])
			if err := part.Close(); err != nil {
				return
			}
		}
	}))
	defer web.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	up := &upgrade{RoundTripper: transport}
	ws, _, err := websocket.Dial(t.Context(), web.URL, &websocket.DialOptions{HTTPClient: &http.Client{Transport: up}})
	if err != nil {
		t.Fatal(err)
	}
	ws.CloseNow()
	defer up.conn.Close()
	w := &wsConn{rw: up.conn, client: true}
	for _, n := range []int{0, 1, 125, 126, 4096, 16376, 65535, 65536} {
		want := make([]byte, n)
		rand.Read(want)
		room := append(make([]byte, maxWSHeader), want...)
		if err := w.put(room, maxWSHeader, wsBinary); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for came := false; !came && err == nil; {
			err = w.read(func(m []byte) error { got, came = bytes.Clone(m), true; return nil })
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %d came, %v", n, len(got), err)
		}
	}
}

// A server that speaks no relay protocol, or closes, is said to be none, and nothing stays open.
func TestNoRelayBehindTheURL(t *testing.T) {
	for name, protocols := range map[string][]string{"another protocol": nil, "closes": {Subprotocol}} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: protocols}); err == nil {
					ws.Close(websocket.StatusGoingAway, "")
				}
			}))
			defer web.Close()
			r := newRelay(t)
			n := r.node("net", onlyTLS, withURL(web.URL, nil))
			waitFor(t, "an error", func() bool { err := n.Status().Err; return err != nil && !errors.Is(err, ErrSilent) })
		})
	}
}

// FuzzWebSocket feeds bytes whole and in pieces: what comes out is the same,
// and what one side writes is what the other reads.
func FuzzWebSocket(f *testing.F) {
	f.Add(wsFrame(0x82, true, "hello"), byte(3), true)
	f.Add(append(wsFrame(0x02, false, "a"), wsFrame(0x80, false, "b")...), byte(1), true)
	f.Add(append(wsFrame(0x89, true, "ping"), wsFrame(0x88, true, "")...), byte(2), false)
	f.Add([]byte{0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0}, byte(1), true)
	f.Fuzz(func(t *testing.T, in []byte, step byte, client bool) {
		whole, answers, err := readAll(client, in, 0)
		pieces, _, err2 := readAll(client, in, int(step)+1)
		if len(whole) != len(pieces) || (err == nil) != (err2 == nil) || err.Error() != err2.Error() {
			t.Fatalf("%d messages (%v) whole, %d (%v) in pieces", len(whole), err, len(pieces), err2)
		}
		for i := range whole {
			if !bytes.Equal(whole[i], pieces[i]) || len(whole[i]) > maxMessage {
				t.Fatalf("message %d differs", i)
			}
		}
		if len(answers) > 3*len(in)+8 { // an empty ping of two bytes: a pong with a masking key
			t.Fatalf("%d bytes answer %d", len(answers), len(in))
		}
		if len(in) > maxMessage {
			return
		}
		out := &fed{}
		w := &wsConn{rw: out, client: client}
		if err := w.put(append(make([]byte, maxWSHeader), in...), maxWSHeader, wsBinary); err != nil {
			t.Fatal(err)
		}
		got, _, _ := readAll(!client, out.out.Bytes(), int(step)+1)
		if len(got) != 1 || !bytes.Equal(got[0], in) {
			t.Fatal("what was written is not what was read")
		}
	})
}

// A ping after a write whose deadline is long past is answered.
func TestWSPingIsAnswered(t *testing.T) {
	r := newRelay(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, conn := r.dialWS()
	defer ws.CloseNow()
	defer conn.Close() // ws closes nothing, see kept
	ctx = ws.CloseRead(ctx)
	for range 3 {
		if err := ws.Ping(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
