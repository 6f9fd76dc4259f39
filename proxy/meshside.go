package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"nexd/rules"
)

// meshDomain ends the full names of mesh devices.
const meshDomain = ".nexd.internal"

// meshSide is the network inside the tunnel.
type meshSide struct {
	mesh  Mesh
	dir   Directory
	names *names
}

func newMeshSide(m Mesh, d Directory) *meshSide {
	return &meshSide{mesh: m, dir: d, names: newNames(systemDNS())}
}

func (m *meshSide) points(key rules.ListenKey) ([]point, error) {
	own := m.dir.Addresses()
	if len(own) == 0 {
		return nil, errors.New("this device has no mesh address yet: it listens as soon as it has joined")
	}
	if key.Bind.IsValid() && !key.Bind.IsUnspecified() {
		if !slices.Contains(own, key.Bind) {
			return nil, listenError(key, netip.AddrPortFrom(key.Bind, key.Port),
				fmt.Errorf("it has %s: %w", join(own), syscall.EADDRNOTAVAIL))
		}
		return []point{{addr: key.Bind}}, nil
	}
	var points []point
	for _, a := range own {
		if key.Bind == unspecified4 && !a.Is4() {
			continue
		}
		points = append(points, point{addr: a})
	}
	return points, nil
}

func join(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

func (m *meshSide) listenStream(at netip.AddrPort) (net.Listener, error) {
	return m.mesh.ListenTCP(at)
}

func (m *meshSide) listenPacket(at netip.AddrPort) (packetSocket, error) {
	pc, err := m.mesh.ListenUDP(at)
	if err != nil {
		return nil, err
	}
	return newPacketSocket(pc), nil
}

// resolve asks the directory before DNS, and admits members' addresses only:
// a packet to any other would vanish in the tunnel without an answer.
func (m *meshSide) resolve(ctx context.Context, t rules.Target) ([]netip.Addr, error) {
	if t.Addr.IsValid() {
		if !m.member(t.Addr) {
			return nil, fmt.Errorf("%s is not the address of a device in the mesh: %w", t.Addr, syscall.EHOSTUNREACH)
		}
		return []netip.Addr{t.Addr}, nil
	}
	if t.Unix != "" {
		return nil, errors.New("a unix socket cannot be a destination in the mesh")
	}
	if addrs := m.dir.Resolve(t.Host); len(addrs) > 0 {
		return interleave(addrs), nil
	}
	if strings.HasSuffix(strings.TrimSuffix(t.Host, "."), meshDomain) {
		return nil, fmt.Errorf("no device named %s in the mesh", strings.TrimSuffix(strings.TrimSuffix(t.Host, "."), meshDomain))
	}
	all, err := m.names.lookup(ctx, t.Host)
	if err != nil {
		return nil, fmt.Errorf("no device named %s in the mesh: %w", t.Host, err)
	}
	addrs := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return !m.member(a) })
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s resolves to %s, which is not the address of a device in the mesh: %w",
			t.Host, join(all), syscall.EHOSTUNREACH)
	}
	return interleave(addrs), nil
}

func (m *meshSide) member(a netip.Addr) bool {
	_, _, ok := m.dir.Who(a)
	return ok || slices.Contains(m.dir.Addresses(), a)
}

func (m *meshSide) dialStream(ctx context.Context, t rules.Target) (net.Conn, error) {
	addrs, err := m.resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	c, err := dialFirst(ctx, withPort(addrs, t.Port), m.mesh.DialTCP)
	if err != nil {
		return nil, dialError(t.String(), err)
	}
	return c, nil
}

func (m *meshSide) dialPacket(ctx context.Context, t rules.Target, skip int) (net.Conn, error) {
	addrs, err := m.resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	c, err := m.mesh.DialUDP(netip.AddrPortFrom(addrs[skip%len(addrs)], t.Port))
	if err != nil {
		return nil, dialError(t.String(), err)
	}
	return c, nil
}
