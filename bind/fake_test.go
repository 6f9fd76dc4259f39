package bind

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.zx2c4.com/wireguard/conn"

	"nexd/key"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSocket is an inner conn.Bind without a network. Its hooks may be nil.
type fakeSocket struct {
	conn.Bind // nil: only the methods below exist
	onOpen    func(port uint16) (uint16, error)
	onSend    func(bufs [][]byte, ep *conn.StdNetEndpoint) error
	onReceive conn.ReceiveFunc

	mu   sync.Mutex
	sent [][]byte
}

func (f *fakeSocket) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	if f.onOpen != nil {
		var err error
		if port, err = f.onOpen(port); err != nil {
			return nil, 0, err
		}
	}
	receive := f.onReceive
	if receive == nil {
		receive = func([][]byte, []int, []conn.Endpoint) (int, error) { return 0, net.ErrClosed }
	}
	return []conn.ReceiveFunc{receive}, port, nil
}

func (f *fakeSocket) Close() error { return nil }

func (f *fakeSocket) BatchSize() int { return 128 }

func (f *fakeSocket) Send(bufs [][]byte, ep conn.Endpoint) error {
	if f.onSend != nil {
		if err := f.onSend(bufs, ep.(*conn.StdNetEndpoint)); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bufs {
		f.sent = append(f.sent, append([]byte(nil), b...))
	}
	return nil
}

func (f *fakeSocket) take() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	sent := f.sent
	f.sent = nil
	return sent
}

// opened returns a Bind on a fake socket, open. What counts how often it sends is
// run in simulated time: after 100 ms without a word of the peer packets are kept
// for the next path, and handshake messages are repeated after 150.
func opened(t *testing.T, f *fakeSocket, cfg Config) *Bind {
	t.Helper()
	b := newBind(cfg, f)
	if _, _, err := b.Open(4242); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// setPath gives a peer a route without a spare.
func setPath(b *Bind, peer key.Public, to netip.AddrPort) { b.SetRoute(peer, Route{Path: to}) }

func newPeer() key.Public { return key.NewPrivate().Public() }

// peerEndpoint is what the device holds for a peer.
func peerEndpoint(t *testing.T, b *Bind, peer key.Public) *Endpoint {
	t.Helper()
	ep, err := b.ParseEndpoint("peer:" + peer.Hex())
	if err != nil {
		t.Fatal(err)
	}
	return ep.(*Endpoint)
}

// message is a WireGuard message of a type and size; tag tells it from others.
func message(kind byte, size int, tag byte) []byte {
	m := make([]byte, size)
	m[0], m[size-1] = kind, tag
	return m
}

func initiation(tag byte) []byte { return message(1, 148, tag) }
func transport(tag byte) []byte  { return message(4, 64, tag) }

// stunMessage is a STUN binding request with n bytes of attributes.
func stunMessage(n int) []byte {
	m := make([]byte, stunHeader+n)
	copy(m, []byte{0, 1, byte(n >> 8), byte(n), 0x21, 0x12, 0xA4, 0x42})
	return m
}
