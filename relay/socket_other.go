//go:build !linux

package relay

import (
	"errors"
	"net/netip"
	"syscall"
)

const canShare = false

func sharePort(string, string, syscall.RawConn) error { return errors.ErrUnsupported }

// tune sizes the buffers; 0: it is not known what came of it.
func (s *Socket) tune() int {
	_ = s.conn.SetReadBuffer(socketBuffer)
	_ = s.conn.SetWriteBuffer(socketBuffer)
	return 0
}

// inbox reads one datagram at a time.
type inbox struct {
	socket *Socket
	buf    []byte
	n      int
	from   netip.AddrPort
}

func newInbox(s *Socket) *inbox { return &inbox{socket: s, buf: make([]byte, 64<<10)} }

func (in *inbox) read() (n int, err error) {
	in.n, in.from, err = in.socket.conn.ReadFromUDPAddrPort(in.buf)
	return 1, err
}

func (in *inbox) packet(int) (packet []byte, size int, from netip.AddrPort) {
	return in.buf[:in.n], in.n, netip.AddrPortFrom(in.from.Addr().Unmap(), in.from.Port())
}

type outboxSys struct{}

func (o *outbox) sendAll(t *tally) {
	for i := range o.msgs {
		m := &o.msgs[i]
		_, err := m.to.udp.WriteTo(m.pieces[0], m.to.addr)
		m.sent(t, err == nil)
	}
}
