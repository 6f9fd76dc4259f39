package relay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"nexd/key"
)

// raw speaks the protocol frame by frame from a socket of its own.
type raw struct {
	t     testing.TB
	conn  *net.UDPConn
	relay netip.AddrPort
	machine
	epochs   uint64
	cred     []byte
	sentAuth []byte
}

func (r *testRelay) raw(private key.Private, credential []byte) *raw {
	r.t.Helper()
	x := &raw{t: r.t, relay: r.udp, cred: credential, epochs: uint64(time.Now().UnixNano())}
	x.machine = machine{tag: randomTag(), epoch: func(above uint64) uint64 {
		x.epochs = max(x.epochs, above) + 1
		return x.epochs
	}}
	var err error
	if x.secret, err = deriveSecret(private, r.private.Public()); err != nil {
		r.t.Fatal(err)
	}
	x.move()
	r.t.Cleanup(func() { x.conn.Close() })
	return x
}

// move takes a new socket.
func (x *raw) move() {
	x.t.Helper()
	if x.conn != nil {
		x.conn.Close()
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		x.t.Fatal(err)
	}
	x.conn = conn
}

func (x *raw) put(frame []byte) {
	x.t.Helper()
	if _, err := x.conn.WriteToUDPAddrPort(frame, x.relay); err != nil {
		x.t.Fatal(err)
	}
}

// get reads one frame; nil when none comes.
func (x *raw) get(wait time.Duration) []byte {
	x.t.Helper()
	b := make([]byte, 64<<10)
	x.conn.SetReadDeadline(time.Now().Add(wait))
	n, _, err := x.conn.ReadFromUDPAddrPort(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

// want reads until a frame of a type comes.
func (x *raw) want(kind FrameType) []byte {
	x.t.Helper()
	for {
		b := x.get(patience)
		if b == nil {
			x.t.Fatalf("no %s came", kind)
		}
		if FrameType(b[0]) == kind {
			return b
		}
	}
}

// challenge asks for a cookie and takes it; what is to be sent next is in out.
func (x *raw) challenge() {
	x.t.Helper()
	x.start(time.Now(), x.cred)
	x.put(x.out[0])
	x.out = nil
	x.handle(time.Now(), x.want(FrameChallenge))
	if len(x.out) != 1 {
		x.t.Fatalf("%d frames after the challenge", len(x.out))
	}
}

// join goes through the whole admission.
func (x *raw) join() *raw {
	x.t.Helper()
	x.challenge()
	x.sentAuth = x.out[0]
	x.put(x.sentAuth)
	x.out = nil
	if out := x.handle(time.Now(), x.want(FrameWelcome)); out.event != evUp {
		x.t.Fatalf("after the welcome: %+v", out)
	}
	return x
}

// data makes a packet for a peer that is named.
func (x *raw) data(to key.Public, what string) []byte {
	return append(appendKeyed(nil, header{FrameDataKey, 0, x.session}, to), text(what)...)
}

// settle returns after the relay handled what was sent before.
func (x *raw) settle() {
	x.t.Helper()
	x.put(appendPing(nil, x.session, 42))
	x.want(FramePong)
}

// seatUDP makes a session that has proved to be at an address nobody has, with
// the few channels a device uses.
func (r *testRelay) seatUDP(n uint32) {
	a := auth{Epoch: 1, Tag: 1, Credential: make([]byte, credentialSize)}
	id := issuerID(r.service.public)
	copy(a.Credential[57:], id[:])
	binary.BigEndian.PutUint32(a.MAC[:], n)
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 200, byte(n >> 8), byte(n)}), 9)
	out := r.server.seat(a, Credential{Device: somebody(n), Network: NetworkOf("net"), Expires: time.Now().Add(time.Hour)}, [32]byte{}, &link{tag: 1, udp: r.sockets[0], addr: at})
	for number := range uint32(8) {
		out.session.open(number+1, somebody(n+number))
	}
}

// somebody is a key nobody has the other half of.
func somebody(n uint32) key.Public {
	var b [key.Size]byte
	binary.BigEndian.PutUint32(b[:], n+1)
	k, err := key.PublicFromBytes(b[:])
	if err != nil {
		panic(err)
	}
	return k
}
