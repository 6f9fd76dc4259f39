package relay

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"nexd/internal/logkey"
	"nexd/key"
)

// authRequest is an auth frame on its way to be checked.
type authRequest struct {
	frame [authSize]byte
	link  link // without a tag
}

// challenge answers a frame of an address without a session: echo is what
// shows the client that the answer is to it. It returns the frame, or none
// when a budget is used up. A WebSocket connection (from is invalid) has its own,
// so it takes nothing from others.
func (s *Server) challenge(b []byte, echo nonce, at place, from netip.Addr, now int64) []byte {
	if from.IsValid() && (!s.challengeSource.of(from).take(challengeEach, 1, now) ||
		!s.challengeAll.take(challengeTotal, 1, now)) {
		return b
	}
	s.count.challenges.Add(1)
	return challenge{Echo: echo, Cookie: s.cookies.make(at, s.cfg.clock())}.appendTo(b)
}

// admitQueued checks what UDP sockets queue.
func (s *Server) admitQueued(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.auths:
			s.admit(r.frame[:], r.link)
		}
	}
}

// admit checks an auth frame whose cookie was right, and answers. It returns
// the session the link now belongs to, or nil.
func (s *Server) admit(frame []byte, l link) *session {
	a, err := parseAuth(frame)
	if err != nil {
		s.count.drop(DropMalformed)
		return nil
	}
	now := s.cfg.clock()
	c, secret, why := s.believe(a, frame, now)
	if why != 0 {
		s.refuse(&l, refusal{Reason: why, Nonce: a.Nonce}, nil)
		return nil
	}
	l.tag = a.Tag
	out := s.seat(a, c, secret, &l)
	if out.refusal.Reason != 0 {
		out.refusal.Nonce = a.Nonce
		proof := &secret
		if out.refusal.Reason == RefusedCredential {
			proof = nil // as for every wrong credential
		}
		s.refuse(&l, out.refusal, proof)
		return nil
	}
	s.reply(&l, out.welcome)
	s.log.Debug("relay session", logkey.Peer, c.Device.Short(), logkey.Addr, l.String())
	for session, why := range out.ended {
		s.ended(session, why)
	}
	for _, asker := range out.askers {
		al := asker.link.Load()
		s.reply(al, appendNotice(nil, al.tag, PeerHere, c.Device))
	}
	return out.session
}

// believe checks the credential and the proof; a reason other than 0 says what
// is wrong. What an earlier auth of the same session proved is not computed again.
func (s *Server) believe(a auth, frame []byte, now time.Time) (c Credential, secret [32]byte, why Refusal) {
	c, err := ParseCredential(a.Credential)
	if err != nil {
		return c, secret, RefusedCredential
	}
	secret, known := s.table.secretOf(c, [credentialSize]byte(a.Credential))
	if !known {
		if c, err = s.issuers.Load().verify(a.Credential, now); err == nil {
			secret, err = s.cfg.Private.Derive(c.Device, pairLabel)
		}
	} else {
		err = c.timely(now)
	}
	switch {
	case errors.Is(err, ErrExpired):
		return c, secret, RefusedExpired
	case errors.Is(err, ErrFuture):
		return c, secret, RefusedFuture
	case err != nil:
		return c, secret, RefusedCredential
	case !prove(&secret, macAuth, authMACed(frame)).equal(a.MAC):
		return c, secret, RefusedProof
	}
	return c, secret, 0
}

// secretOf returns the secret of the pair if the device has a session with that very credential.
func (t *table) secretOf(c Credential, raw [credentialSize]byte) (secret [32]byte, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.networks[c.Network]
	if n == nil {
		return secret, false
	}
	session := n.sessions[c.Device]
	if session == nil || session.credential != raw {
		return secret, false
	}
	return session.secret, true
}

// seating is what came of a proved auth.
type seating struct {
	session *session
	welcome []byte
	refusal refusal
	ended   map[*session]Farewell
	askers  []*session
}

// seat makes or moves the session of a proved device.
func (s *Server) seat(a auth, c Credential, secret [32]byte, l *link) (out seating) {
	now := s.now()
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	n := s.table.networkLocked(c.Network)
	old := n.sessions[c.Device]
	highest, seen := n.highestEpoch(c.Device, old, now)
	resume := old != nil && a.Resume != 0 && a.Resume == old.tag && sameTransport(old.link.Load(), l)
	switch {
	case !s.stillBelieved(a, c):
		out.refusal.Reason = RefusedCredential
		return out
	case old != nil && a.MAC == old.authMAC && samePlace(old.link.Load(), l):
		out.session, out.welcome = old, old.welcome // the welcome was lost
		return out
	case seen && a.Epoch <= highest:
		out.refusal = refusal{Reason: RefusedStale, Value: highest}
		return out
	case s.draining.Load() && !resume:
		out.refusal.Reason = RefusedDraining
		return out
	case old == nil && (s.table.total >= s.limits.Sessions || len(n.sessions) >= s.limits.NetworkSessions):
		out.refusal.Reason = RefusedFull
		return out
	}
	out.ended = map[*session]Farewell{}
	seated := old
	if resume {
		s.table.moveLocked(old, l)
		s.count.moved.Add(1)
	} else {
		seated = &session{network: n, device: c.Device, secret: secret, tag: randomTag()}
		seated.link.Store(l)
		if old != nil {
			s.table.removeLocked(old, now)
			out.ended[old] = ByeReplaced
			s.count.replaced.Add(1)
		} else {
			out.askers = n.askersLocked(c.Device, now)
		}
		s.table.addLocked(seated)
		s.count.admitted.Add(1)
	}
	if l.tls == nil {
		if displaced := s.table.settle(l.addr, seated); displaced != nil && s.table.removeLocked(displaced, now) {
			// Its address is somebody else's now: there is nobody to tell.
			out.ended[displaced] = ByeLeaving
		}
	}
	seated.heard.Store(now)
	seated.epoch, seated.authMAC = a.Epoch, a.MAC
	seated.credential = [credentialSize]byte(a.Credential)
	left := c.Expires.Add(ClockTolerance).Sub(s.cfg.clock())
	seated.expires = now + int64(left)
	seated.welcome = s.welcome(a, seated, resume, left)
	out.session, out.welcome = seated, seated.welcome
	return out
}

func (s *Server) welcome(a auth, session *session, resumed bool, left time.Duration) []byte {
	w := welcome{
		Resumed: resumed, Nonce: a.Nonce, Tag: session.tag, Epoch: a.Epoch,
		Lifetime: left, Channels: MaxChannels,
	}
	b := w.appendTo(make([]byte, 0, welcomeSize))
	m := prove(&session.secret, macWelcome, a.MAC[:], b)
	return append(b, m[:]...)
}

// refuse answers an auth; with a secret the answer is proved.
func (s *Server) refuse(l *link, r refusal, secret *[32]byte) {
	s.count.refused[r.Reason].Add(1)
	b := r.appendTo(make([]byte, 0, refuseSize))
	var m mac
	if secret != nil {
		m = prove(secret, macRefuse, b)
	}
	s.log.Debug("relay refuses", logkey.Addr, l.String(), logkey.Reason, r.Reason.String())
	s.reply(l, append(b, m[:]...))
}

func (n *network) highestEpoch(device key.Public, old *session, now int64) (epoch uint64, seen bool) {
	if past, ok := n.epochs[device]; ok && past.until > now {
		epoch, seen = past.epoch, true
	}
	if old != nil {
		epoch, seen = max(epoch, old.epoch), true
	}
	return epoch, seen
}

// moveLocked makes l the way to a session. t.mu is held.
func (t *table) moveLocked(s *session, l *link) {
	before := s.link.Swap(l)
	if before.tls == nil && before.addr != l.addr {
		t.vacate(before.addr, s)
	}
}

func sameTransport(a, b *link) bool { return a.tls == b.tls }

func samePlace(a, b *link) bool { return a.tls == b.tls && a.addr == b.addr }

// String returns the link for logs.
func (l *link) String() string {
	if l.tls != nil {
		return "websocket " + l.tls.remote
	}
	return "udp " + l.addr.String()
}
