//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nexd/test/netns"
)

// forward is a mapping of an outside UDP port that a client asked for.
type forward struct {
	client netip.AddrPort // inside
	port   uint16         // outside
	ends   time.Time
}

func (f forward) seconds() int { return max(int(time.Until(f.ends).Round(time.Second)/time.Second), 1) }

// element and reverse are the mapping as elements of the NAT's two maps.
func (f forward) element() string {
	return fmt.Sprintf("%d timeout %ds : %s . %d", f.port, f.seconds(), f.client.Addr(), f.client.Port())
}

func (f forward) reverse() string {
	return fmt.Sprintf("%s . %d timeout %ds : %d", f.client.Addr(), f.client.Port(), f.seconds(), f.port)
}

const (
	// maxLifetime is the longest a mapping is given, in seconds: a day.
	maxLifetime = 86400
	// maxForwards is how many mappings a router gives out.
	maxForwards = 128
)

// mapper is a router's NAT-PMP server (RFC 6886).
type mapper struct {
	site *Site
	conn *net.UDPConn

	mu       sync.Mutex
	began    time.Time  // of the epoch; mu guards it and the fields below
	outside  netip.Addr // the router's
	forwards []forward
}

// startMapper runs the server on the router's inside address until the test ends.
func (s *Site) startMapper() {
	s.lab.t.Helper()
	inside := hostOf(s.lan, 1)
	conn, err := netns.Inside(s.router, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(inside, pmpServerPort)))
	})
	if err == nil {
		err = multicastFrom(conn, inside)
	}
	if err != nil {
		s.lab.t.Fatalf("%s: NAT-PMP server: %v", s.Name, err)
	}
	s.mapper = &mapper{site: s, conn: conn}
	s.mapper.reset()
	var wg sync.WaitGroup
	wg.Go(s.mapper.serve)
	s.lab.t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
}

// serve answers requests until the socket is closed.
func (m *mapper) serve() {
	packet := make([]byte, 64)
	for {
		n, from, err := m.conn.ReadFromUDPAddrPort(packet)
		if err != nil {
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if answer := m.answer(packet[:n], from); answer != nil {
			m.conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

// answer returns what a packet is answered with; nil: nothing.
func (m *mapper) answer(packet []byte, from netip.AddrPort) []byte {
	request, ok := parsePMP(packet)
	if !ok {
		return nil
	}
	a := pmpAnswer{op: request.op}
	m.mu.Lock()
	epoch, outside := time.Since(m.began), m.outside
	m.mu.Unlock()
	a.epoch = uint32(epoch / time.Second)
	switch {
	case request.version != 0:
		a.result = pmpBadVersion
	case request.op == pmpAddress:
		a.outside = outside
	case request.op == pmpMapUDP:
		a.inside = request.inside
		a.result, a.port, a.lifetime = m.change(netip.AddrPortFrom(from.Addr(), request.inside), request)
	default:
		a.result = pmpBadOp
	}
	return a.append(nil)
}

// change makes, renews or ends a mapping.
func (m *mapper) change(client netip.AddrPort, request pmpRequest) (result, port uint16, lifetime uint32) {
	now := time.Now()
	lifetime = min(request.lifetime, maxLifetime)

	m.mu.Lock()
	var gone []forward
	var next forward
	m.forwards = slices.DeleteFunc(m.forwards, func(f forward) bool {
		switch {
		case f.ends.Before(now):
			gone = append(gone, f)
			return true
		case lifetime == 0 && f.client.Addr() == client.Addr() && (client.Port() == 0 || f.client == client):
			gone = append(gone, f)
			return true
		case f.client == client:
			gone, next = append(gone, f), f
			return true
		}
		return false
	})
	if lifetime > 0 {
		if next.port == 0 {
			next = forward{client: client, port: m.freePort(request.wanted, client.Port())}
		}
		if next.port != 0 && client.Port() != 0 && len(m.forwards) < maxForwards {
			next.ends = now.Add(time.Duration(lifetime) * time.Second)
			m.forwards = append(m.forwards, next)
			port = next.port
		} else {
			result, lifetime = pmpNoResources, 0
		}
	}
	m.mu.Unlock()

	for _, f := range gone { // an element whose time is over has gone by itself
		m.site.router.TryNFT(fmt.Sprintf("delete element ip nat forwarded { %d }\n", f.port) +
			fmt.Sprintf("delete element ip nat forwardedout { %s . %d }\n", f.client.Addr(), f.client.Port()))
	}
	if port != 0 {
		if err := m.site.router.TryNFT(fmt.Sprintf("add element ip nat forwarded { %s }\n", next.element()) +
			fmt.Sprintf("add element ip nat forwardedout { %s }\n", next.reverse())); err != nil {
			m.site.lab.t.Logf("%s: NAT-PMP: %v", m.site.Name, err)
			return pmpNetworkFailure, 0, 0
		}
	}
	return result, port, lifetime
}

// freePort finds an outside port, the wanted one if it can be; 0: none.
func (m *mapper) freePort(wanted, inside uint16) uint16 {
	if wanted == 0 {
		wanted = inside
	}
	wanted = max(wanted, 1024)
	for range maxForwards + 1 {
		if !slices.ContainsFunc(m.forwards, func(f forward) bool { return f.port == wanted }) {
			return wanted
		}
		if wanted++; wanted == 0 {
			wanted = 1024
		}
	}
	return 0
}

// reset is the router's restart: no mappings, and a new epoch by which clients
// notice.
func (m *mapper) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began, m.outside, m.forwards = time.Now(), m.site.outside, nil
}

// list returns the mappings that live.
func (m *mapper) list() []forward {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.forwards), func(f forward) bool { return f.ends.Before(time.Now()) })
}

// announce tells all hosts inside the outside address (RFC 6886 section 3.2.1).
func (m *mapper) announce() {
	a := m.answer([]byte{0, pmpAddress}, netip.AddrPort{})
	m.conn.WriteToUDPAddrPort(a, netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 1}), pmpClientPort))
}

// multicastFrom sends the socket's multicasts to the network of an own address.
func multicastFrom(c *net.UDPConn, addr netip.Addr) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInet4Addr(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, addr.As4())
	})
	return errors.Join(err, failed)
}
