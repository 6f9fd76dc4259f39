package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/quick"
	"time"

	"nexd/test/need"
)

func popAll(q *fairQueue) (frames [][]byte) {
	for {
		message, any := q.pop(make([]byte, 0, writeChunk), 0)
		if !any {
			return frames
		}
		for len(message) > 0 {
			frame, rest, err := nextFramed(message)
			if err != nil {
				panic(err)
			}
			frames, message = append(frames, frame), rest
		}
	}
}

// A sender that floods loses its own frames; another's are all there, in order.
func TestQueueIsFair(t *testing.T) {
	q := fairQueue{limit: depth{least: 64 << 10}}
	flood, quiet := &session{}, &session{}
	frame := func(kind byte, i int) []byte {
		b := make([]byte, 1200)
		b[8] = kind
		binary.BigEndian.PutUint32(b[9:], uint32(i))
		return b
	}
	dropped := 0
	for i := range 1000 {
		d, _ := q.push(flood, frame(1, i))
		dropped += d
		if i%100 == 0 {
			d, _ = q.push(quiet, frame(2, i/100))
			dropped += d
		}
	}
	got := popAll(&q)
	next, floods, last := uint32(0), 0, -1
	for pos, f := range got {
		n := binary.BigEndian.Uint32(f[9:])
		if f[8] == 1 {
			if int(n) <= last {
				t.Fatal("the order changed")
			}
			last = int(n)
			floods++
			continue
		}
		if n != next {
			t.Fatalf("quiet frame %d came as %d", n, next)
		}
		next++
		if pos > 40 {
			t.Errorf("quiet frame %d waited behind %d others", n, pos)
		}
	}
	if next != 10 || floods+dropped != 1000 || last != 999 {
		t.Errorf("%d quiet, %d flooding, %d dropped, last %d", next, floods, dropped, last)
	}
	if q.bytes != 0 || q.flows != nil || q.turns != nil {
		t.Errorf("left over: %d bytes", q.bytes)
	}
}

func TestQueueKeepsItsBound(t *testing.T) {
	senders := make([]*session, 7)
	for i := range senders {
		senders[i] = &session{}
	}
	check := func(sizes []uint16) bool {
		q := fairQueue{limit: depth{least: 2 * MaxFrame}}
		pushed, dropped := 0, 0
		for i, n := range sizes {
			d, _ := q.push(senders[i%len(senders)], make([]byte, headerSize+int(n)%MaxPacket))
			pushed++
			dropped += d
			if q.bytes > q.limit.least {
				return false
			}
		}
		return len(popAll(&q)) == pushed-dropped && q.bytes == 0
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
	q := fairQueue{limit: depth{least: 2 * MaxFrame}}
	q.close()
	if d, _ := q.push(nil, make([]byte, 20)); d != 1 || !q.empty() {
		t.Error("a closed queue takes frames")
	}
}

// Frames wait as the messages they will be; over the bound the oldest go.
func TestOutgoingDropsTheOldest(t *testing.T) {
	var q outgoing
	q.init()
	head := []byte("head....")
	frame := func(i int) []byte { return fmt.Appendf(make([]byte, 0, 1400), "%1400d", i) }
	const each = lengthSize + 8 + 1400
	const fit, more = leastOutgoing / each, 25
	dropped := 0
	for i := range (fit + more) / 2 {
		dropped += q.push(head, frame(2*i), frame(2*i+1))
	}
	if want := (fit+more)/2*2 - fit; dropped != want {
		t.Errorf("%d dropped, want %d", dropped, want)
	}
	next := dropped
	for _, got := range takeAll(t, &q) {
		if want := string(head) + string(frame(next)); string(got) != want {
			t.Fatalf("frame %d: %.20q", next, got)
		}
		next++
	}
	if want := fit + dropped; next != want || q.bytes != 0 || len(q.messages) != 0 {
		t.Errorf("the last was %d of %d, %d bytes and %d messages are left", next, want, q.bytes, len(q.messages))
	}
	q.close()
	if q.push(nil, frame(1)) != 1 {
		t.Error("a closed queue takes frames")
	}
	if n, closed := q.take(make([]*message, 1), 0); n != 0 || !closed {
		t.Errorf("closed: %d messages, %v", n, closed)
	}
}

// takeAll takes all frames, through messages of which none is too long.
func takeAll(t *testing.T, q *outgoing) (frames [][]byte) {
	t.Helper()
	into := make([]*message, together)
	for {
		n, _ := q.take(into, 0)
		if n == 0 {
			return frames
		}
		for _, m := range into[:n] {
			if len(m.room()) > writeChunk {
				t.Fatalf("a message of %d bytes", len(m.room()))
			}
			for rest := m.room()[wsHeadroom:]; len(rest) > 0; {
				frame, after, err := nextFramed(rest)
				if err != nil {
					t.Fatal(err)
				}
				frames, rest = append(frames, bytes.Clone(frame)), after
			}
			m.done()
		}
	}
}

// What is dropped, taken and left adds up, whatever the sizes.
func TestOutgoingKeepsItsBound(t *testing.T) {
	check := func(sizes []uint16) bool {
		var q outgoing
		q.init()
		dropped := 0
		for range 20 {
			for _, n := range sizes {
				dropped += q.push(make([]byte, headerSize), make([]byte, 1+int(n)%MaxPacket))
				if q.bytes > leastOutgoing {
					return false
				}
			}
		}
		return len(takeAll(t, &q))+dropped == 20*len(sizes) && q.bytes == 0
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 30}); err != nil {
		t.Error(err)
	}
}

// Who takes much in a while may have more waiting; who took little, the least.
func TestDepthFollowsWhatIsTaken(t *testing.T) {
	d := depth{least: 1000}
	for i, c := range []struct {
		taken int
		at    time.Duration
		want  int
	}{
		{500, 10 * time.Millisecond, 1000}, // too soon to say
		{1500, 50 * time.Millisecond, 2000},
		{1 << 30, 110 * time.Millisecond, 4000},
		{2000, 150 * time.Millisecond, 4000},
		{1000, 210 * time.Millisecond, 1500},
		{9000, time.Hour, 1000},
	} {
		if d.took(c.taken, int64(c.at)); d.bytes() != c.want {
			t.Errorf("%d: %d bytes, want %d", i, d.bytes(), c.want)
		}
	}
}

// Frames of one size to one client become one datagram; order and sizes are kept.
func TestOutboxJoins(t *testing.T) {
	home, err := Listen(t.Context(), "127.0.0.1:0", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer home[0].conn.Close()
	if !home[0].canSegment() {
		need.Missing(t, "a kernel that cuts datagrams")
	}
	var o outbox
	var c tally
	o.init(home[0])
	a, b := &link{udp: home[0]}, &link{udp: home[0]}
	buf := make([]byte, 1000)
	o.add(nil, a, buf[0:100:1000], &c)
	o.add(nil, b, make([]byte, 100), &c)
	o.add(nil, a, buf[100:200:1000], &c)
	o.add(nil, a, buf[300:400:1000], &c)
	o.add(nil, b, make([]byte, 120), &c) // longer: another datagram
	o.add(nil, a, buf[400:450:1000], &c) // shorter: the last
	o.add(nil, a, buf[450:550:1000], &c)
	type shape struct {
		to             *link
		frames, pieces int
	}
	var got []shape
	for _, m := range o.msgs {
		got = append(got, shape{m.to, m.frames, len(m.pieces)})
	}
	want := []shape{{a, 4, 2}, {b, 1, 1}, {b, 1, 1}, {a, 1, 1}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	o.arena = nil
	one := o.room(arenaSize - 10)
	two := o.room(100)
	if cap(one) != arenaSize-10 || cap(two) != 100 || len(one)+len(two) != 0 {
		t.Errorf("rooms of %d and %d", cap(one), cap(two))
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	r := perSecond(1000, 10)
	count := func(now int64) (n int) {
		for b.take(r, 1, now) {
			n++
		}
		return n
	}
	if n := count(0); n != 10 {
		t.Errorf("%d at once", n)
	}
	if n := count(5e6); n != 5 {
		t.Errorf("%d after 5 ms", n)
	}
	if n := count(3600e9 * 24 * 365); n != 10 {
		t.Errorf("%d after a year", n)
	}
	var free bucket
	if !free.take(perSecond(-1, 0), 1<<40, 0) {
		t.Error("no limit limits")
	}
	var fast bucket
	gigabyte := perSecond(1e9, 1e6)
	taken := 0
	for now := int64(0); now < 1e9; now += 1000 {
		for fast.take(gigabyte, 1000, now) {
			taken += 1000
		}
	}
	if taken < 95e7 || taken > 105e7 {
		t.Errorf("%d bytes in a second", taken)
	}
}
