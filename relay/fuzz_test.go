package relay

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"nexd/key"
)

func samples() [][]byte {
	p := key.NewPrivate().Public()
	cred := make([]byte, credentialSize)
	withMAC := func(b []byte) []byte { return append(b, make([]byte, macSize)...) }
	return [][]byte{
		nil,
		{0xC0},
		appendHello(nil, nonce{1, 2}),
		challenge{Echo: nonce{1}, Cookie: cookie{2}}.appendTo(nil),
		withMAC(auth{Nonce: nonce{1}, Cookie: cookie{2}, Epoch: 3, Tag: 4, Resume: 5, Credential: cred}.appendTo(nil)),
		withMAC(welcome{Resumed: true, Nonce: nonce{1}, Tag: 2, Epoch: 3, Lifetime: time.Hour, Channels: 4}.appendTo(nil)),
		withMAC(refusal{Reason: RefusedStale, Nonce: nonce{1}, Value: 2}.appendTo(nil)),
		appendPing(nil, 1, 2), appendPong(nil, 1, 2),
		appendKeyed(nil, header{FrameOpen, 3, 4}, p), appendKeyed(nil, header{FrameOpened, 3, 4}, p),
		appendNotice(nil, 1, PeerHere, p),
		withMAC(appendBye(nil, 1, ByeIdle)),
		append(appendHeader(nil, header{FrameData, 5, 6}), "packet"...),
		append(appendKeyed(nil, header{FrameDataKey, 5, 6}, p), "packet"...),
	}
}

// Whatever is parsed is written again as the same bytes.
func FuzzFrames(f *testing.F) {
	for _, s := range samples() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, got []byte) {
			t.Helper()
			if !bytes.Equal(got, b) {
				t.Errorf("%s: %x became %x", what, b, got)
			}
		}
		if h, ok := parseHeader(b); ok {
			same("header", append(appendHeader(nil, h), b[headerSize:]...))
			c := bytes.Clone(b)
			putHeader(c, h)
			same("header in place", c)
			if p, rest, err := parseKeyed(b); err == nil {
				same("keyed", append(appendKeyed(nil, h, p), rest...))
			}
		}
		if len(b) < 4 {
			return
		}
		lead := [4]byte(b) // what no parser reads is kept for the comparison
		restore := func(out []byte) []byte { copy(out, lead[:]); return out }
		if n, err := parseHello(b); err == nil {
			same("hello", append(restore(appendHello(nil, n))[:12], b[12:]...))
		}
		if c, err := parseChallenge(b); err == nil {
			same("challenge", restore(c.appendTo(nil)))
		}
		if a, err := parseAuth(b); err == nil {
			same("auth", append(restore(a.appendTo(nil)), a.MAC[:]...))
			if len(authMACed(b))+macSize != len(b) {
				t.Error("the MAC covers too much")
			}
		}
		if w, err := parseWelcome(b); err == nil && bytes.Equal(b[32:36], make([]byte, 4)) {
			same("welcome", append(restore(w.appendTo(nil)), w.MAC[:]...))
		}
		if r, err := parseRefusal(b); err == nil {
			same("refusal", append(restore(r.appendTo(nil)), r.MAC[:]...))
		}
		if what, p, err := parseNotice(b); err == nil {
			h, _ := parseHeader(b)
			got := appendNotice(nil, h.Tag, what, p)
			if !bytes.Equal(got[headerSize+4:], b[headerSize+4:]) || got[headerSize] != b[headerSize] {
				t.Errorf("notice: %x became %x", b, got)
			}
		}
		if y, err := parseBye(b); err == nil && (y.Reason != Farewell(b[headerSize]) || !bytes.Equal(y.MAC[:], b[16:])) {
			t.Errorf("bye %+v of %x", y, b)
		}
		if _, err := parseStamp(b); (err == nil) != (len(b) >= pongSize) {
			t.Errorf("stamp of %d bytes: %v", len(b), err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add(appendFramed(appendFramed(nil, []byte("12345678"), []byte("9")), appendPing(nil, 1, 2), nil))
	f.Add([]byte{0, 9, 1, 2})
	f.Fuzz(func(t *testing.T, message []byte) {
		var again []byte
		rest := message
		for len(rest) > 0 {
			frame, next, err := nextFramed(rest)
			if err != nil {
				return
			}
			again = appendFramed(again, frame[:headerSize], frame[headerSize:])
			rest = next
		}
		if !bytes.Equal(again, message) {
			t.Errorf("%x became %x", message, again)
		}
	})
}

func FuzzCredential(f *testing.F) {
	s := newService(f)
	now := time.Now()
	good := s.credential(key.NewPrivate().Public(), "net", time.Hour)
	f.Add(good)
	f.Add(good[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := (issuers{s.public}).verify(b, now)
		if err == nil && !bytes.Equal(b, good) && !bytes.Equal(c.Sign(s.private), b) {
			t.Errorf("believed %x", b)
		}
		if c, err := ParseCredential(b); err == nil {
			if got := c.Sign(s.private); !bytes.Equal(got[:57], b[:57]) {
				t.Errorf("%x became %x", b[:57], got[:57])
			}
		}
	})
}

// FuzzServer feeds a relay datagrams of a session and of strangers: it neither
// panics nor sends a stranger more than it was sent.
func FuzzServer(f *testing.F) {
	for _, s := range samples() {
		f.Add(s, true)
		f.Add(s, false)
	}
	s, err := NewServer(ServerConfig{Private: key.NewPrivate(), Issuers: issuers{newService(f).public}})
	if err != nil {
		f.Fatal(err)
	}
	home, err := Listen(f.Context(), "127.0.0.1:0", 1, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { home[0].conn.Close() })
	member := &session{device: key.NewPrivate().Public(), tag: 0x01020304}
	here := netip.MustParseAddrPort("127.0.0.1:9")
	member.link.Store(&link{udp: home[0], addr: here})
	s.table.mu.Lock()
	member.network = s.table.networkLocked(NetworkOf("net"))
	s.table.addLocked(member)
	s.table.mu.Unlock()
	s.table.settle(here, member)
	fw := newForwarder(s, home[0])
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		fw.begin()
		from := netip.MustParseAddrPort("127.0.0.1:10")
		if inside {
			from = here
			if len(b) >= headerSize {
				b = bytes.Clone(b)
				copy(b[4:], []byte{1, 2, 3, 4})
			}
		}
		fw.datagram(home[0], b, len(b)/2, from)
		fw.datagram(home[0], bytes.Clone(b), len(b), from)
		fw.flush()
	})
}

// FuzzClient feeds a client frames from the relay's address.
func FuzzClient(f *testing.F) {
	for _, s := range samples() {
		f.Add(s)
	}
	c, err := NewClient(ClientConfig{
		Private: key.NewPrivate(), Relay: key.NewPrivate().Public(), UDP: []string{"192.0.2.1:1"},
		WriteUDP: func([][]byte, netip.AddrPort) error { return nil }, Credential: func() []byte { return nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	from := netip.MustParseAddrPort("192.0.2.1:1")
	c.udpAddrs.Store(&[]netip.AddrPort{from})
	c.up.Store(&upLink{generation: 1, tag: 1, channels: MaxChannels, addr: from})
	r := &runner{c: c}
	r.udp.machine = machine{secret: c.secret, tag: c.tag, epoch: r.nextEpoch, up: true}
	r.udp.addr = from
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= headerSize {
			putHeader(b, header{FrameType(b[0]), uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), c.tag})
		}
		peer, packet, ok := c.HandleUDP(b, from)
		if ok == peer.IsZero() || ok && len(packet) == 0 {
			t.Errorf("%x: %v %x %t", b, peer, packet, ok)
		}
		select {
		case got := <-c.inbox:
			r.frame(time.Now(), got)
		default:
		}
	})
}
