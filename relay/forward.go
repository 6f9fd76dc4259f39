package relay

import (
	"net/netip"

	"nexd/key"
)

// forwarder handles frames for one goroutine at a time: it reads, decides, and
// collects what goes out until flush. It holds on to the frames it is given
// until then, and changes their headers in place.
type forwarder struct {
	server *Server
	out    outbox
	tally  tally
	now    int64 // nanoseconds since the server's start, of this batch
}

func newForwarder(s *Server, own *Socket) *forwarder {
	f := &forwarder{server: s}
	f.out.init(own)
	return f
}

// begin starts a batch.
func (f *forwarder) begin() { f.now = f.server.now() }

// flush sends what was collected.
func (f *forwarder) flush() {
	f.out.flush(&f.tally)
	f.tally.flush(&f.server.count)
}

// fromUDP handles a frame of a datagram; s is the session at that address, or nil.
func (f *forwarder) fromUDP(s *session, frame []byte, socket *Socket, from netip.AddrPort) {
	switch FrameType(frame[0]) {
	case FrameHello:
		n, err := parseHello(frame)
		if err != nil {
			f.tally.drop(DropMalformed, 1)
			return
		}
		f.challenge(n, placeOf(from), &link{udp: socket, addr: from})
	case FrameAuth:
		f.authUDP(frame, socket, from)
	default:
		if s == nil {
			f.stranger(frame, socket, from)
			return
		}
		f.fromSession(s, frame)
	}
}

// stranger answers a frame from an address without a session: its client may
// have moved, or the relay may have been restarted.
func (f *forwarder) stranger(frame []byte, socket *Socket, from netip.AddrPort) {
	f.tally.drop(DropStranger, 1)
	switch FrameType(frame[0]) {
	case FrameData, FrameDataKey, FramePing, FrameOpen:
	default:
		return
	}
	if len(frame) < minCarrier {
		return
	}
	f.challenge(nonce(frame[:headerSize]), placeOf(from), &link{udp: socket, addr: from})
}

func (f *forwarder) challenge(echo nonce, at place, l *link) {
	var room [challengeSize]byte
	if b := f.server.challenge(room[:0], echo, at, l.addr.Addr(), f.now); len(b) > 0 {
		f.server.reply(l, b)
		return
	}
	f.tally.drop(DropBudget, 1)
}

// authUDP queues an auth whose cookie is right, and gives another cookie for one that is not.
func (f *forwarder) authUDP(frame []byte, socket *Socket, from netip.AddrPort) {
	a, err := parseAuth(frame)
	if err != nil {
		f.tally.drop(DropMalformed, 1)
		return
	}
	at := placeOf(from)
	if !f.server.cookies.check(a.Cookie, at, f.server.cfg.clock()) {
		f.challenge(a.Nonce, at, &link{udp: socket, addr: from})
		return
	}
	if !f.server.authSource.of(from.Addr()).take(authEach, 1, f.now) {
		f.tally.drop(DropBudget, 1)
		return
	}
	r := authRequest{frame: [authSize]byte(frame), link: link{udp: socket, addr: from}}
	select {
	case f.server.auths <- r:
	default:
		f.tally.drop(DropBudget, 1)
	}
}

// fromSession handles a frame from where s's client proved to be.
func (f *forwarder) fromSession(s *session, frame []byte) {
	h, ok := parseHeader(frame)
	switch {
	case !ok || len(frame) > MaxFrame:
		f.tally.drop(DropMalformed, 1)
		return
	case h.Tag != s.tag:
		f.tally.drop(DropTag, 1)
		return
	}
	if f.now > s.heard.Load() {
		s.heard.Store(f.now)
	}
	switch h.Type {
	case FrameData:
		f.data(s, h, frame)
	case FrameDataKey:
		f.dataKey(s, h, frame)
	default:
		f.control(s, h, frame)
	}
}

// control handles what is not a packet to a peer. It counts against the
// device's limits as packets do.
func (f *forwarder) control(s *session, h header, frame []byte) {
	if !f.allowed(s, len(frame)) {
		return
	}
	l := s.link.Load()
	switch h.Type {
	case FramePing:
		stamp, err := parseStamp(frame)
		if err != nil || len(frame) < pingSize {
			f.tally.drop(DropMalformed, 1)
			return
		}
		f.out.add(s, l, appendPong(f.out.room(pongSize), l.tag, stamp), &f.tally)
	case FrameOpen:
		peer, _, err := parseKeyed(frame)
		if err != nil || h.Channel == 0 || h.Channel > MaxChannels {
			f.tally.drop(DropMalformed, 1)
			return
		}
		f.agree(s, l, h.Channel, peer)
	case FrameBye:
		y, err := parseBye(frame)
		if m := byeMAC(s, macByeUp, frame[:len(frame)-min(macSize, len(frame))]); err != nil || !m.equal(y.MAC) {
			f.tally.drop(DropMalformed, 1)
			return
		}
		f.server.end(s, ByeLeaving)
	default:
		f.tally.drop(DropMalformed, 1)
	}
}

// agree notes that a channel stands for a peer, and says so.
func (f *forwarder) agree(s *session, l *link, number uint32, peer key.Public) {
	if s.open(number, peer) {
		if other := f.server.table.find(s.network, peer); other != nil {
			other.forgetRoute(s.device)
		}
	}
	frame := appendKeyed(f.out.room(openSize), header{FrameOpened, number, l.tag}, peer)
	f.out.add(s, l, frame, &f.tally)
}

// data forwards a packet on a channel: the header is changed in place.
func (f *forwarder) data(s *session, h header, frame []byte) {
	c := s.channel(h.Channel)
	if c == nil || len(frame) == headerSize {
		f.tally.drop(DropChannel, 1)
		return
	}
	if !f.allowed(s, len(frame)) {
		return
	}
	r := c.route.Load()
	if r == nil || r.to.ended.Load() {
		if r = f.resolve(s, c); r == nil {
			return
		}
	}
	f.pass(s, r, frame, frame[headerSize:])
}

// dataKey forwards a packet that names its peer, and takes the channel it proposes.
func (f *forwarder) dataKey(s *session, h header, frame []byte) {
	peer, packet, err := parseKeyed(frame)
	if err != nil || len(packet) == 0 || h.Channel > MaxChannels {
		f.tally.drop(DropMalformed, 1)
		return
	}
	if !f.allowed(s, len(frame)) {
		return
	}
	if h.Channel != 0 {
		f.agree(s, s.link.Load(), h.Channel, peer)
	}
	to := f.server.table.find(s.network, peer)
	if to == nil || to == s {
		f.absent(s, peer)
		return
	}
	f.pass(s, &route{to, to.numberFor(s.device)}, frame[key.Size:], packet)
}

// resolve finds where a channel leads. A receiver without a number for the
// sender is looked up again with each packet: it will soon have one.
func (f *forwarder) resolve(s *session, c *channel) *route {
	to := f.server.table.find(s.network, c.peer)
	if to == nil || to == s {
		f.absent(s, c.peer)
		return nil
	}
	r := &route{to, to.numberFor(s.device)}
	if r.number != 0 {
		c.route.Store(r)
	}
	return r
}

// pass sends a packet to a peer. frame is where its header may be written:
// the packet with eight bytes before it.
func (f *forwarder) pass(s *session, r *route, frame, packet []byte) {
	l := r.to.link.Load()
	if r.number != 0 {
		putHeader(frame, header{FrameData, r.number, l.tag})
		f.out.add(s, l, frame, &f.tally)
		return
	}
	keyed := appendKeyed(f.out.room(keyedHeader+len(packet)), header{FrameDataKey, 0, l.tag}, s.device)
	f.out.add(s, l, append(keyed, packet...), &f.tally)
}

// absent says that a peer is not here, and remembers who asked.
func (f *forwarder) absent(s *session, peer key.Public) {
	f.tally.drop(DropAbsent, 1)
	if !s.notices.take(noticeEach, 1, f.now) {
		return
	}
	f.server.table.ask(s, peer, f.now)
	l := s.link.Load()
	f.out.add(s, l, appendNotice(f.out.room(noticeSize), l.tag, PeerGone, peer), &f.tally)
}

// allowed takes a frame from what the device and its network may send.
func (f *forwarder) allowed(s *session, size int) bool {
	switch {
	case !s.packets.take(f.server.packetRate, packetUnit, f.now),
		!s.bytes.take(f.server.deviceRate, int64(size), f.now):
		f.tally.drop(DropDeviceRate, 1)
		return false
	case !s.network.rate.take(f.server.networkRate, int64(size), f.now):
		f.tally.drop(DropNetworkRate, 1)
		return false
	}
	return true
}
