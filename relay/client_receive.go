package relay

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"nexd/key"
)

// HandleUDP takes a datagram of the node's socket. A packet of a peer is
// returned: it is part of pkt, and only valid as long. Everything else is done
// inside, without blocking, and ok is false; so it is when the datagram is not
// of this relay.
func (c *Client) HandleUDP(pkt []byte, from netip.AddrPort) (peer key.Public, packet []byte, ok bool) {
	if !c.fromRelay(from) || len(pkt) < headerSize || pkt[0] < firstFrame {
		return key.Public{}, nil, false
	}
	peer, packet, ok, short := c.frame(pkt)
	if ok || short {
		if ok || FrameType(pkt[0]) == FrameOpened {
			c.heardUDP.Store(time.Now().UnixNano())
		}
		if short && c.expected(pkt) {
			c.post(pkt, from, nil)
		}
	}
	return peer, packet, ok
}

// expected reports whether a frame of the admission is an answer to us: who
// forges the relay's address could fill Run's inbox otherwise.
func (c *Client) expected(frame []byte) bool {
	switch FrameType(frame[0]) {
	case FrameChallenge, FrameWelcome, FrameRefuse:
	default:
		return true // it has our tag
	}
	if len(frame) < 4+nonceSize {
		return false
	}
	echo := binary.BigEndian.Uint64(frame[4:])
	u := c.up.Load()
	return echo == c.nonce.Load() || u != nil && uint32(echo) == u.tag
}

// fromRelay reports whether an address is one of the relay's that are in use or being tried.
func (c *Client) fromRelay(a netip.AddrPort) bool {
	addrs := c.udpAddrs.Load()
	return addrs != nil && slices.Contains(*addrs, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

// frame sorts a frame: a packet (ok), one for Run (short), or one that is done with.
func (c *Client) frame(frame []byte) (peer key.Public, packet []byte, ok, short bool) {
	h, valid := parseHeader(frame)
	if !valid {
		c.count.frames.Add(1)
		return peer, nil, false, false
	}
	switch h.Type {
	case FrameChallenge, FrameWelcome, FrameRefuse: // not of a session
		return peer, nil, false, len(frame) <= helloSize
	}
	u := c.up.Load()
	if h.Tag != c.tag || u == nil {
		c.count.frames.Add(1)
		return peer, nil, false, false
	}
	switch h.Type {
	case FrameData:
		if ch := c.peers.number(h.Channel); ch != nil && len(frame) > headerSize {
			peer, packet, ok = ch.peer, frame[headerSize:], true
		}
	case FrameDataKey:
		from, rest, err := parseKeyed(frame)
		if err == nil && len(rest) > 0 {
			c.propose(u, from)
			peer, packet, ok = from, rest, true
		}
	case FrameOpened:
		if who, _, err := parseKeyed(frame); err == nil {
			if ch := c.peers.number(h.Channel); ch != nil && ch.peer == who {
				ch.agreed.Store(u.generation)
			}
			return peer, nil, false, false
		}
	case FramePong, FrameNotice, FrameBye:
		return peer, nil, false, len(frame) <= helloSize
	}
	if !ok {
		c.count.frames.Add(1)
		return peer, nil, false, false
	}
	c.count.receivedPackets.Add(1)
	c.count.receivedBytes.Add(uint64(len(packet)))
	return peer, packet, true, false
}

// propose asks for a channel for a peer that sends to us, at most once in a while.
func (c *Client) propose(u *upLink, peer key.Public) {
	ch := c.peers.get(peer)
	if ch == nil || ch.number > u.channels || ch.agreed.Load() == u.generation {
		return
	}
	now := time.Now().UnixNano()
	if before := ch.asked.Load(); now-before < int64(proofRetries[0]) || !ch.asked.CompareAndSwap(before, now) {
		return
	}
	c.control(u, appendKeyed(nil, header{FrameOpen, ch.number, u.tag}, peer))
}

// post hands a short frame to Run; a full inbox drops it, for it will be sent again.
func (c *Client) post(frame []byte, from netip.AddrPort, ws *clientConn) {
	f := clientFrame{from: from, ws: ws}
	f.n = copy(f.frame[:], frame)
	select {
	case c.inbox <- f:
	default:
		c.count.frames.Add(1)
	}
}
