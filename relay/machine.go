package relay

import (
	"encoding/binary"
	"time"

	"nexd/key"
)

// Times of a client.
const (
	proofPatience = 3 * time.Second // a proof without an answer has failed
	proofPause    = 5 * time.Second // between proofs of a session that is up
	idlePing      = 10 * time.Second
	idleTimeout   = 3 * time.Second
	idleMisses    = 2
	quickSilence  = 400 * time.Millisecond // we send and hear nothing
	quickUDP      = 100 * time.Millisecond // or one and a half round trips: between pings then
	quickTLS      = 250 * time.Millisecond // likewise; a lost segment holds up what follows it
	quickSuspect  = 2                      // so many without an answer: more than one lost ping
	quickMisses   = 10
)

// proofRetries is when a hello or an auth is sent again, after the one before.
var proofRetries = [...]time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond}

// machine is the client's side of one session over one transport, without I/O:
// frames and times go in, frames to send pile up in out, events come back.
//
//	         start                challenge             welcome
//	closed ─────────▶ asking ───────────────▶ proving ───────────▶ up
//	   ▲                 │ 3 s                   │ 3 s, refusal     │ silence, bye
//	   └─────────────────┴───────────────────────┴──────────────────┘
//
// While it is up it goes through asking and proving again, without interruption,
// to renew its credential; and through proving alone when the relay answers a
// frame with a challenge: the address of the client has changed, or the relay
// was restarted.
type machine struct {
	secret *[32]byte
	tag    uint32              // what the relay writes into frames to us
	epoch  func(uint64) uint64 // returns one above all before and the argument
	quick  time.Duration       // between pings while we send and hear nothing

	up       bool
	proof    proofState
	nonce    nonce
	began    time.Time // of the proof
	again    time.Time // when its frame is sent again
	tries    int
	hellos   int    // sent with the nonce, and not answered
	frame    []byte // the auth
	authMAC  mac
	offered  []byte // the credential in it
	lastTry  time.Time
	stale    int
	session  uint32 // the tag we write
	accepted []byte // the credential the relay has
	channels uint32

	rtt      time.Duration
	pinged   time.Time // the last ping
	waiting  bool      // for its answer
	misses   int
	suspect  bool // pings are overdue while we send
	upSince  time.Time
	out      [][]byte
	draining bool
}

type proofState uint8

const (
	proofNone proofState = iota
	proofAsking
	proofProving
)

// event is what came of a step.
type event uint8

const (
	evNone    event = iota
	evUp            // a new session: channels are to be agreed anew
	evResumed       // the session goes on
	evLost          // it was up; or it never came up
	evRefused       // see machine.refused
	evBye
)

// outcome is an event with its reason.
type outcome struct {
	event   event
	refusal Refusal
	bye     Farewell
}

// start begins a session with a credential.
func (m *machine) start(now time.Time, credential []byte) {
	m.close()
	m.ask(now, credential)
}

// close forgets the session.
func (m *machine) close() {
	*m = machine{secret: m.secret, tag: m.tag, epoch: m.epoch, quick: m.quick, rtt: m.rtt}
}

func (m *machine) active() bool { return m.up || m.proof != proofNone }

// ask sends a hello.
func (m *machine) ask(now time.Time, credential []byte) {
	m.nonce = randomNonce()
	m.proof, m.began, m.tries, m.stale = proofAsking, now, 0, 0
	m.lastTry = now
	m.offered = credential
	m.again = now.Add(proofRetries[0])
	m.hellos = 1
	m.send(appendHello(nil, m.nonce))
}

func (m *machine) send(frame []byte) { m.out = append(m.out, frame) }

// prove sends an auth with a cookie.
func (m *machine) prove(now time.Time, k cookie, above uint64) {
	a := auth{Nonce: m.nonce, Cookie: k, Epoch: m.epoch(above), Tag: m.tag, Credential: m.offered}
	if m.up {
		a.Resume = m.session
	}
	b := a.appendTo(make([]byte, 0, authSize))
	m.authMAC = prove(m.secret, macAuth, b)
	m.frame = append(b, m.authMAC[:]...)
	m.proof, m.began, m.tries, m.again = proofProving, now, 0, now.Add(proofRetries[0])
	m.lastTry = now
	m.send(m.frame)
}

// handle takes one frame of the relay that is neither a packet nor about channels.
func (m *machine) handle(now time.Time, frame []byte) outcome {
	switch FrameType(frame[0]) {
	case FrameChallenge:
		if c, err := parseChallenge(frame); err == nil {
			m.challenged(now, c)
		}
	case FrameWelcome:
		if w, err := parseWelcome(frame); err == nil {
			return m.welcomed(now, w, frame)
		}
	case FrameRefuse:
		if r, err := parseRefusal(frame); err == nil {
			return m.refused(now, r, frame)
		}
	case FramePong:
		m.ponged(now, frame)
	case FrameBye:
		return m.goodbye(frame)
	}
	return outcome{}
}

// challenged takes a cookie: for the hello, or because a frame of ours came
// from an address the relay does not know.
func (m *machine) challenged(now time.Time, c challenge) {
	switch {
	case m.proof == proofAsking && c.Echo == m.nonce:
		m.hellos--
		m.prove(now, c.Cookie, 0)
	case m.proof == proofProving && c.Echo == m.nonce && m.hellos > 0:
		m.hellos-- // it answers a hello that was sent again
	case m.proof == proofProving && c.Echo == m.nonce:
		m.prove(now, c.Cookie, 0) // the first one had expired, or the address has changed since
	case m.up && binary.BigEndian.Uint32(c.Echo[4:]) == m.session:
		if m.proof == proofProving && now.Sub(m.lastTry) < proofRetries[0] {
			return // one answer to a batch of frames
		}
		m.nonce, m.hellos = randomNonce(), 0
		m.offered = m.accepted
		m.prove(now, c.Cookie, 0)
	}
}

func (m *machine) welcomed(now time.Time, w welcome, frame []byte) outcome {
	if m.proof != proofProving || w.Nonce != m.nonce ||
		!prove(m.secret, macWelcome, m.authMAC[:], frame[:welcomeSize-macSize]).equal(w.MAC) {
		return outcome{}
	}
	m.proof, m.frame = proofNone, nil
	m.accepted = m.offered
	m.session, m.channels = w.Tag, min(w.Channels, MaxChannels)
	m.waiting, m.suspect, m.misses, m.pinged = false, false, 0, now
	m.measured(now.Sub(m.lastTry))
	if m.up && w.Resumed {
		return outcome{event: evResumed}
	}
	m.up, m.upSince, m.draining = true, now, false
	return outcome{event: evUp}
}

func (m *machine) refused(now time.Time, r refusal, frame []byte) outcome {
	if m.proof != proofProving || r.Nonce != m.nonce {
		return outcome{}
	}
	if r.Reason == RefusedStale {
		// Our clock went back. Only the relay itself may say so, and not for ever.
		if !prove(m.secret, macRefuse, frame[:refuseSize-macSize]).equal(r.MAC) || m.stale >= 3 {
			return outcome{}
		}
		m.stale++
		a, err := parseAuth(m.frame)
		if err == nil {
			m.prove(now, a.Cookie, r.Value)
		}
		return outcome{}
	}
	m.proof, m.frame = proofNone, nil
	return outcome{event: evRefused, refusal: r.Reason}
}

func (m *machine) ponged(now time.Time, frame []byte) {
	stamp, err := parseStamp(frame)
	if err != nil || !m.up || stamp != uint64(m.pinged.UnixNano()) {
		return
	}
	m.measured(now.Sub(m.pinged))
}

func (m *machine) measured(rtt time.Duration) {
	if m.rtt == 0 {
		m.rtt = rtt
	} else {
		m.rtt += (rtt - m.rtt) / 4
	}
}

func (m *machine) goodbye(frame []byte) outcome {
	y, err := parseBye(frame)
	var tag [4]byte
	binary.BigEndian.PutUint32(tag[:], m.session)
	if err != nil || !m.up || !prove(m.secret, macByeDown, frame[:byeSize-macSize], tag[:]).equal(y.MAC) {
		return outcome{}
	}
	if y.Reason == ByeDraining {
		m.draining = true
	}
	return outcome{event: evBye, bye: y.Reason}
}

// leave returns the frame that ends the session.
func (m *machine) leave() []byte {
	b := appendBye(make([]byte, 0, byeSize), m.session, ByeLeaving)
	var tag [4]byte
	binary.BigEndian.PutUint32(tag[:], m.session)
	y := prove(m.secret, macByeUp, b, tag[:])
	return append(b, y[:]...)
}

// tick does what is due: sends again, pings, gives up. heard is when a frame of
// the session last came, sent when a packet was last sent, credential the
// newest there is. It returns when it wants to be called next.
func (m *machine) tick(now, heard, sent time.Time, credential []byte) (outcome, time.Time) {
	next := now.Add(time.Hour)
	if m.proof != proofNone {
		if now.Sub(m.began) >= proofPatience {
			m.proof, m.frame = proofNone, nil
			if !m.up {
				return outcome{event: evLost}, next
			}
		} else {
			if !now.Before(m.again) {
				m.sendAgain(now)
			}
			next = earlier(m.again, m.began.Add(proofPatience))
		}
	}
	if !m.up {
		return outcome{}, next
	}
	if m.proof == proofNone && len(credential) == credentialSize && string(credential) != string(m.accepted) {
		if now.Sub(m.lastTry) >= proofPause {
			m.ask(now, credential)
		}
		next = earlier(next, m.lastTry.Add(proofPause))
	}
	dead, at := m.live(now, heard, sent)
	if dead {
		return outcome{event: evLost}, next
	}
	return outcome{}, earlier(next, at)
}

func (m *machine) sendAgain(now time.Time) {
	if m.proof == proofAsking {
		m.hellos++
		m.send(appendHello(nil, m.nonce))
	} else {
		m.send(m.frame)
	}
	m.lastTry = now
	m.tries = min(m.tries+1, len(proofRetries)-1)
	m.again = now.Add(proofRetries[m.tries])
}

// live pings, and says whether the relay must be taken for dead.
func (m *machine) live(now, heard, sent time.Time) (dead bool, next time.Time) {
	if m.waiting && heard.After(m.pinged) {
		m.waiting, m.suspect, m.misses = false, false, 0
	}
	quick := sent.After(heard) && now.Sub(heard) >= quickSilence && now.Sub(sent) < idlePing
	timeout, allowed := idleTimeout, idleMisses
	if quick {
		timeout, allowed = max(m.quick, m.rtt*3/2), quickMisses
	}
	switch due := m.pinged.Add(idlePing); {
	case m.waiting && now.Before(m.pinged.Add(timeout)):
		return false, m.pinged.Add(timeout)
	case m.waiting:
		if m.misses++; m.misses >= allowed {
			return true, now
		}
		m.suspect = quick && m.misses >= quickSuspect
	case quick || !now.Before(due):
	default:
		// Packets that follow one another closely do not wake us: look when the
		// silence could have lasted. After a pause in them the first one does.
		silent := heard.Add(quickSilence)
		if sent.After(heard) || silent.After(now) && now.Sub(sent) <= quickSilence {
			due = earlier(due, silent)
		}
		return false, due
	}
	m.waiting, m.pinged = true, now
	m.send(appendPing(nil, m.session, uint64(now.UnixNano())))
	return false, now.Add(timeout)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// deriveSecret is the secret of a device and a relay.
func deriveSecret(own key.Private, other key.Public) (*[32]byte, error) {
	s, err := own.Derive(other, pairLabel)
	return &s, err
}
