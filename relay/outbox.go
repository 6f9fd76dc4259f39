package relay

// Sizes of an outbox.
const (
	maxOut       = 64    // datagrams, each of them one or many frames
	maxSegments  = 64    // frames in one (UDP_MAX_SEGMENTS of older kernels)
	maxDatagrams = 64000 // bytes in one
	arenaSize    = 64 << 10
)

// outbox collects frames for UDP clients. Frames of one size to one client,
// which may be followed by a shorter one, become one datagram that the kernel
// cuts (UDP_SEGMENT); what lies side by side in memory stays one piece. The
// order of frames to one client is kept.
type outbox struct {
	own   *Socket // preferred: no other goroutine writes to it
	msgs  []outMsg
	arena []byte // of frames made here
	sys   outboxSys
	// waiting are clients whose writer starts at flush, so that a batch becomes one message.
	waiting []*tlsConn
}

// outMsg is one datagram on its way.
type outMsg struct {
	to     *link
	pieces [][]byte
	size   int // of each frame but the last
	frames int
	bytes  int
	closed bool // the last frame was shorter: nothing may follow
}

func (o *outbox) init(own *Socket) {
	o.own = own
	o.msgs = make([]outMsg, 0, maxOut)
}

// room returns an empty slice with space for n bytes that lives until flush.
func (o *outbox) room(n int) []byte {
	if cap(o.arena)-len(o.arena) < n {
		// What was given out stays where it is: only the slice is new.
		o.arena = make([]byte, 0, max(arenaSize, n))
	}
	at := len(o.arena)
	o.arena = o.arena[:at+n]
	return o.arena[at:at:min(at+n, cap(o.arena))]
}

// add takes a frame from a session for a client. It is copied for a WebSocket
// client; for UDP it must stay as it is until flush.
func (o *outbox) add(from *session, to *link, frame []byte, t *tally) {
	if to.tls != nil {
		if dropped, _ := to.tls.queue.push(from, frame); dropped > 0 {
			t.drop(DropQueue, dropped)
		}
		if n := len(o.waiting); n == 0 || o.waiting[n-1] != to.tls {
			o.waiting = append(o.waiting, to.tls)
		}
		t.packetsTLS++
		t.bytesTLS += uint64(len(frame))
		return
	}
	if m := o.joinable(to, len(frame)); m != nil {
		m.join(frame)
		return
	}
	if len(o.msgs) == maxOut {
		o.send(t)
	}
	o.msgs = o.msgs[:len(o.msgs)+1]
	m := &o.msgs[len(o.msgs)-1]
	m.to, m.size, m.frames, m.bytes, m.closed = to, len(frame), 1, len(frame), false
	m.pieces = append(m.pieces[:0], frame)
}

// joinable returns the last datagram to a client if a frame of n bytes fits in.
func (o *outbox) joinable(to *link, n int) *outMsg {
	if !to.udp.canSegment() {
		return nil
	}
	for i := len(o.msgs) - 1; i >= 0; i-- {
		m := &o.msgs[i]
		if m.to != to {
			continue
		}
		if m.closed || n > m.size || m.frames >= maxSegments || m.bytes+n > maxDatagrams {
			return nil
		}
		return m
	}
	return nil
}

func (m *outMsg) join(frame []byte) {
	last := &m.pieces[len(m.pieces)-1]
	if adjacent(*last, frame) {
		*last = (*last)[:len(*last)+len(frame)]
	} else {
		m.pieces = append(m.pieces, frame)
	}
	m.closed = len(frame) < m.size
	m.frames++
	m.bytes += len(frame)
}

// adjacent reports whether b begins where a ends, in the same array.
func adjacent(a, b []byte) bool {
	return cap(a) >= len(a)+len(b) && len(b) > 0 && &a[:len(a)+1][len(a)] == &b[0]
}

// flush sends everything; frames given to add may be changed after it.
func (o *outbox) flush(t *tally) {
	if len(o.msgs) > 0 {
		o.send(t)
	}
	for i, c := range o.waiting {
		c.wake()
		o.waiting[i] = nil
	}
	o.waiting = o.waiting[:0]
	if cap(o.arena) > 0 {
		o.arena = o.arena[:0]
	}
}

// send sends the datagrams there are, without giving the arena back.
func (o *outbox) send(t *tally) {
	o.sendAll(t)
	for i := range o.msgs {
		o.msgs[i].to = nil
	}
	o.msgs = o.msgs[:0]
}

// sent counts a datagram that was given to the kernel, or not.
func (m *outMsg) sent(t *tally, ok bool) {
	if !ok {
		t.drop(DropSend, m.frames)
		return
	}
	t.packetsUDP += uint64(m.frames)
	t.bytesUDP += uint64(m.bytes)
}
