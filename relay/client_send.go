package relay

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"nexd/key"
)

// peerTable numbers the peers of a client. A number stays a peer's for as long
// as the client lives, so that a late frame is never taken for another's.
type peerTable struct {
	mu       sync.RWMutex // guards the fields below
	byKey    map[key.Public]*peerChannel
	byNumber []*peerChannel // index 0: none
}

type peerChannel struct {
	peer   key.Public
	number uint32
	agreed atomic.Uint64 // the generation of the session the relay confirmed it in
	asked  atomic.Int64  // UnixNano
}

// get returns the channel of a peer, made when it is new; nil when there are no more numbers.
func (t *peerTable) get(peer key.Public) *peerChannel {
	t.mu.RLock()
	c := t.byKey[peer]
	t.mu.RUnlock()
	if c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c = t.byKey[peer]; c != nil {
		return c
	}
	if t.byKey == nil {
		t.byKey = map[key.Public]*peerChannel{}
		t.byNumber = make([]*peerChannel, 1)
	}
	if len(t.byNumber) > MaxChannels {
		return nil
	}
	c = &peerChannel{peer: peer, number: uint32(len(t.byNumber))}
	t.byKey[peer] = c
	t.byNumber = append(t.byNumber, c)
	return c
}

// number returns the channel of a number, or nil.
func (t *peerTable) number(n uint32) *peerChannel {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if int(n) >= len(t.byNumber) {
		return nil
	}
	return t.byNumber[n]
}

// sendScratch is where datagrams are put together.
type sendScratch struct {
	buf    []byte
	frames [][]byte
}

// Send sends packets to a peer through the relay and returns how many went on
// their way. It does not block and keeps nothing. Without a session they are
// dropped and counted; what WebSocket cannot take in time waits, 256 KiB and up
// to 1 MiB before a relay that takes it fast; over that the oldest are dropped.
func (c *Client) Send(peer key.Public, packets [][]byte) int {
	n, _ := c.send(peer, packets)
	return n
}

// send is Send, and says by which transport; NoTransport: there is no session.
func (c *Client) send(peer key.Public, packets [][]byte) (int, Transport) {
	u := c.up.Load()
	if u == nil {
		c.count.offline.Add(uint64(len(packets)))
		return 0, NoTransport
	}
	c.noteSent()
	ch := c.peers.get(peer)
	head := make([]byte, 0, keyedHeader)
	switch {
	case ch != nil && ch.number <= u.channels && ch.agreed.Load() == u.generation:
		head = appendHeader(head, header{FrameData, ch.number, u.tag})
	case ch != nil && ch.number <= u.channels:
		head = appendKeyed(head, header{FrameDataKey, ch.number, u.tag}, peer)
	default:
		head = appendKeyed(head, header{FrameDataKey, 0, u.tag}, peer)
	}
	if u.ws != nil {
		return c.sendTLS(u.ws, head, packets), TLS
	}
	return c.sendUDP(u.addr, head, packets), UDP
}

// noteSent remembers that packets went out; a relay that has been silent for a
// while is then asked at once whether it lives.
func (c *Client) noteSent() {
	now := time.Now()
	before := c.sent.Swap(now.UnixNano())
	if now.UnixNano()-before >= int64(quickSilence) {
		c.nudge()
	}
}

func (c *Client) sendUDP(to netip.AddrPort, head []byte, packets [][]byte) int {
	s := c.scratch.Get().(*sendScratch)
	defer c.scratch.Put(s)
	total := 0
	for _, p := range packets {
		total += len(head) + len(p)
	}
	if cap(s.buf) < total {
		s.buf = make([]byte, 0, max(total, 2048))
	}
	s.buf, s.frames = s.buf[:0], s.frames[:0]
	bytes := 0
	for _, p := range packets {
		if len(p) == 0 || len(p) > MaxPacket {
			c.count.send.Add(1)
			continue
		}
		at := len(s.buf)
		s.buf = append(append(s.buf, head...), p...)
		s.frames = append(s.frames, s.buf[at:])
		bytes += len(p)
	}
	if len(s.frames) == 0 {
		return 0
	}
	if err := c.cfg.WriteUDP(s.frames, to); err != nil {
		c.count.send.Add(uint64(len(s.frames)))
		return 0
	}
	c.count.sentPackets.Add(uint64(len(s.frames)))
	c.count.sentBytes.Add(uint64(bytes))
	return len(s.frames)
}

func (c *Client) sendTLS(w *clientConn, head []byte, packets [][]byte) (n int) {
	bytes, from, dropped := 0, 0, 0
	for i, p := range packets {
		if len(p) == 0 || len(p) > MaxPacket {
			c.count.send.Add(1)
			dropped += w.queue.push(head, packets[from:i]...)
			from = i + 1
			continue
		}
		n++
		bytes += len(p)
	}
	dropped += w.queue.push(head, packets[from:]...)
	c.count.queue.Add(uint64(dropped))
	c.count.sentPackets.Add(uint64(n))
	c.count.sentBytes.Add(uint64(bytes))
	return n
}

// control sends one frame by a link.
func (c *Client) control(u *upLink, frame []byte) {
	if u.ws != nil {
		u.ws.queue.push(nil, frame)
		return
	}
	_ = c.cfg.WriteUDP([][]byte{frame}, u.addr) // it will be sent again
}
