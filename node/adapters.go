package node

import (
	"context"
	"net"
	"net/netip"

	"nexd/bind"
	"nexd/key"
	"nexd/netstack"
)

// mesh shows the netstack to the proxy: the same calls, in interfaces.
type mesh struct{ stack *netstack.Stack }

func (m mesh) ListenTCP(at netip.AddrPort) (net.Listener, error)   { return m.stack.ListenTCP(at) }
func (m mesh) ListenUDP(at netip.AddrPort) (net.PacketConn, error) { return m.stack.ListenUDP(at) }

func (m mesh) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := m.stack.DialTCP(ctx, to)
	if err != nil {
		return nil, err // a nil *Conn must not become a non-nil interface
	}
	return c, nil
}

func (m mesh) DialUDP(to netip.AddrPort) (net.Conn, error) { return m.stack.DialUDP(to) }

// paths shows the bind to discovery, and the stack what of it concerns its streams.
type paths struct {
	bind  *bind.Bind
	sizes *sizes
}

func (p paths) SetRoute(peer key.Public, path, spare netip.AddrPort, both bool) {
	p.bind.SetRoute(peer, bind.Route{Path: path, Spare: spare, Both: both})
	p.sizes.path(peer, path)
}
