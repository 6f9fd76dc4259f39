package bind

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// holdFor is how long a handshake message waits for its peer's path, and how
// long one that was not answered is sent over new paths. After five seconds
// WireGuard makes a new one anyway.
const holdFor = 4 * time.Second

// repeatAfter says when a handshake message that was not answered is sent
// again, counted from the first time: one that was lost costs 150 ms.
var repeatAfter = [...]time.Duration{150 * time.Millisecond, 350 * time.Millisecond, 750 * time.Millisecond, 1500 * time.Millisecond}

const (
	// crossFor is how long our initiation stands against one of the peer that
	// crosses it. It ends before the peer's last repeat, which is then heard if
	// ours does not get through.
	crossFor = 1400 * time.Millisecond
	// yieldFor is how long after an initiation of the peer one of ours gives
	// WireGuard time to answer that, yieldWait how much. On a loaded machine the
	// initiation may lie in WireGuard's queue for a good part of a second.
	yieldFor, yieldWait = time.Second, 50 * time.Millisecond
	// confirmFor is how long the first packets of a session are kept, and
	// confirmGap how soon after them a response is a repeated one.
	confirmFor = 2 * time.Second
	confirmGap = 100 * time.Millisecond
	// confirmBytes bounds what is kept of those packets.
	confirmBytes = 4096
)

// handshake is WireGuard's newest handshake message to a peer.
type handshake struct {
	peer    *Endpoint
	message []byte // a copy; never changes
	index   uint32 // the number we gave the session: all answers bear it
	made    int64  // nanoseconds after Bind.epoch

	waits bool // for a path; guarded by peer.mu

	// The fields below are guarded by repeats.mu once the peer has the message.
	yields     bool  // to the answer to an initiation of the peer
	sent       int64 // first; 0 not yet
	step       int   // repeats done
	timer      *time.Timer
	over       bool // nothing more happens to it
	answer     bool // one came, at answeredAt
	answeredAt int64
	response   []byte   // what is sealed of it
	remote     uint32   // the number the peer gave the session
	confirm    [][]byte // our first packets in it
	confirmAt  int64    // when they were sent
}

func newHandshake(e *Endpoint, message []byte, now int64) *handshake {
	return &handshake{peer: e, message: bytes.Clone(message), index: binary.LittleEndian.Uint32(message[4:]), made: now}
}

func (h *handshake) initiation() bool { return h.message[0] == typeInitiation }

// repeats sends handshake messages again until they are answered:
//
//	           start            answer
//	made ─▶ sent, repeated ───────────────▶ answered (an initiation by a response:
//	              │ 4 s, or a newer one          our first packets are kept 2 s)
//	              ▼
//	            over
//
// Answers are known by the number in them, so neither an older session's
// packets nor the address they come from matter. Each message has one timer;
// at rest there is nothing.
type repeats struct {
	send  func(h *handshake, packets [][]byte, again bool) // over the peer's route of now
	since func() int64

	pending atomic.Int32 // entries of byIndex

	mu      sync.Mutex // guards the fields below
	byIndex map[uint32]*handshake
	closed  bool
	running sync.WaitGroup // sends of timers
}

// start begins to repeat a message that is being sent for the first time, or
// will be soon if it yields.
func (r *repeats) start(h *handshake) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || h.over || h.timer != nil {
		return
	}
	if other := r.byIndex[h.index]; other != nil {
		r.endLocked(other)
	}
	r.byIndex[h.index] = h
	r.pending.Store(int32(len(r.byIndex)))
	next := repeatAfter[0]
	if h.yields {
		next = yieldWait
	} else if h.sent == 0 {
		h.sent = r.since()
	}
	h.timer = time.AfterFunc(next, func() { r.fire(h) })
}

// fire is called by the message's timer.
func (r *repeats) fire(h *handshake) {
	r.mu.Lock()
	if h.answer && r.since()-h.answeredAt < int64(confirmFor) {
		r.mu.Unlock()
		return // the answer came just now, and set the timer anew
	}
	if r.closed || h.over || h.answer || h.step == len(repeatAfter) {
		r.endLocked(h)
		r.mu.Unlock()
		return
	}
	first := h.yields
	h.timer.Reset(r.nextLocked(h))
	r.running.Add(1)
	r.mu.Unlock()
	defer r.running.Done()
	r.send(h, [][]byte{h.message}, !first)
}

// nextLocked counts one more sending and returns the time until the one after.
func (r *repeats) nextLocked(h *handshake) time.Duration {
	if h.yields {
		h.yields, h.sent = false, r.since()
		return repeatAfter[0]
	}
	h.step++
	if h.step == len(repeatAfter) {
		return holdFor - repeatAfter[h.step-1]
	}
	return repeatAfter[h.step] - repeatAfter[h.step-1]
}

// drop forgets a message: a newer one took its place, or its peer left. nil is allowed.
func (r *repeats) drop(h *handshake) {
	if h == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(h)
}

func (r *repeats) endLocked(h *handshake) {
	h.over, h.confirm = true, nil
	h.peer.confirms.CompareAndSwap(h, nil)
	if h.timer != nil {
		h.timer.Stop()
	}
	if r.byIndex[h.index] == h {
		delete(r.byIndex, h.index)
		r.pending.Store(int32(len(r.byIndex)))
	}
}

// answered reports whether an answer to a message came.
func (r *repeats) answered(h *handshake) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return h.answer
}

// heard is told of a received response, cookie reply or transport packet;
// false: it is a copy of a response that WireGuard has, and must not get again.
// (Its workers would take both when they come at once, and count nonces of one
// key from 0 twice.)
func (r *repeats) heard(pkt []byte) bool {
	index, ok := answers(pkt)
	if !ok {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.byIndex[index]
	switch {
	case h == nil || r.closed:
		return true
	case h.answer:
		if pkt[0] != typeResponse || !bytes.Equal(h.response, sealed(pkt)) {
			return true
		}
		r.confirmLocked(h)
		return false
	}
	h.answer, h.answeredAt = true, r.since()
	if !h.initiation() || pkt[0] != typeResponse {
		r.endLocked(h)
		return true
	}
	h.response = bytes.Clone(sealed(pkt))
	h.remote = binary.LittleEndian.Uint32(pkt[4:])
	h.peer.confirms.Store(h)
	h.timer.Reset(confirmFor)
	return true
}

// answers returns the number an answer bears; ok is false for what is none.
func answers(pkt []byte) (index uint32, ok bool) {
	switch {
	case pkt[0] == typeResponse && len(pkt) == sizeResponse:
		return binary.LittleEndian.Uint32(pkt[8:]), true
	case pkt[0] == typeCookie && len(pkt) == sizeCookie, pkt[0] == typeTransport:
		return binary.LittleEndian.Uint32(pkt[4:]), true
	}
	return 0, false
}

// sealed returns the part of a response that the handshake protects.
func sealed(response []byte) []byte { return response[12:60] }

// keep copies the first packets of the session that h began. Until one arrives
// the peer may not send in it.
func (r *repeats) keep(h *handshake, packets [][]byte) {
	if len(packets[0]) < minWireGuard || packets[0][0] != typeTransport {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.over || h.confirm != nil || binary.LittleEndian.Uint32(packets[0][4:]) != h.remote {
		return
	}
	size := 0
	for _, p := range packets {
		if size += len(p); size > confirmBytes {
			break
		}
		h.confirm = append(h.confirm, slices.Clip(bytes.Clone(p))) // sends write behind the end
	}
	h.confirmAt = r.since()
	h.peer.confirms.CompareAndSwap(h, nil)
}

// confirmLocked sends those packets again when the response came a second
// time long after them: they were lost.
func (r *repeats) confirmLocked(h *handshake) {
	now := r.since()
	if h.confirm == nil || now-h.confirmAt < int64(confirmGap) {
		return
	}
	h.confirmAt = now
	packets := h.confirm
	r.running.Go(func() { r.send(h, packets, true) })
}

// crosses reports whether a peer's initiation crosses ours and has to give
// way. WireGuard would take it and forget its own, on both sides: no session
// for five seconds and more. Both sides see both messages, and the greater one
// counts. (The same within one side, which begins while an initiation of the
// peer is on its way through WireGuard: then ours yields.)
func (r *repeats) crosses(h *handshake, theirs []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return h != nil && h.sent != 0 && !h.answer && !h.over && h.initiation() &&
		r.since()-h.sent < int64(crossFor) && bytes.Compare(h.message, theirs) > 0
}

// open allows messages to be repeated.
func (r *repeats) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = false
}

// close ends all repeats. The caller closes the socket and then waits for running.
func (r *repeats) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, h := range r.byIndex {
		r.endLocked(h)
	}
}
