//go:build linux

package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"nexd/internal/stunwire"
	"nexd/test/netns"
)

// Dependence says what of the remote endpoint a NAT's mapping or filtering
// depends on (RFC 4787 sections 4.1 and 5).
type Dependence uint8

const (
	_ Dependence = iota
	// Independent of the remote endpoint.
	Independent
	// OnAddress of the remote.
	OnAddress
	// OnAddressPort of the remote.
	OnAddressPort
)

// String returns a word for people.
func (d Dependence) String() string {
	return [...]string{"unknown", "independent", "address", "address-port"}[min(d, OnAddressPort)]
}

// Ports says how the outside ports of a NAT relate to those inside.
type Ports uint8

const (
	_ Ports = iota
	// Preserved: the same.
	Preserved
	// Sequential: each mapping's is one above the last one's.
	Sequential
	// Changed in some other way.
	Changed
)

// String returns a word for people.
func (p Ports) String() string {
	return [...]string{"unknown", "preserved", "sequential", "changed"}[min(p, Changed)]
}

// Behaviour is what a node sees of the NAT before it.
type Behaviour struct {
	// UDP says that any answer came; without it only TCP443 is meant.
	UDP                bool
	Mapping, Filtering Dependence
	Ports              Ports
	// Hairpin: a packet to our own outside endpoint arrives.
	Hairpin bool
	// TCP443: a connection to that port gets through.
	TCP443 bool
	// Local is the port asked from, Mapped what four destinations saw: two
	// addresses, then their other ports in the other order. Invalid: no answer.
	Local  uint16
	Mapped [4]netip.AddrPort
}

// String returns the behaviour in one line.
func (b Behaviour) String() string {
	if !b.UDP {
		return fmt.Sprintf("udp=blocked tcp443=%t", b.TCP443)
	}
	mapped := make([]string, len(b.Mapped))
	for i, m := range b.Mapped {
		mapped[i] = m.String()
	}
	return fmt.Sprintf("mapping=%s filtering=%s ports=%s hairpin=%t tcp443=%t local=%d mapped=%s",
		b.Mapping, b.Filtering, b.Ports, b.Hairpin, b.TCP443, b.Local, strings.Join(mapped, ","))
}

// How long an answer is waited for, more than any round trip measured over.
// Nothing is lost in the lab unless asked, so the second try is for a machine
// that is busy, or a line with losses.
const (
	answerTime = 300 * time.Millisecond
	answerless = 2
	// tcpPatience is longer than the machine stands still at times, as there is no
	// second try.
	tcpPatience = 10 * time.Second
)

// Behaviour measures the NAT before the node over IPv4 (RFC 5780 section 4),
// with sockets of its own: about two seconds where packets are filtered.
func (n *Node) Behaviour() (Behaviour, error) {
	var b Behaviour
	socks := make([]*net.UDPConn, 3) // to map, to filter, to hairpin
	for i := range socks {
		var err error
		if socks[i], err = n.ListenUDP("udp4", 0); err != nil {
			return b, err
		}
		defer socks[i].Close()
	}
	b.Local = uint16(socks[0].LocalAddr().(*net.UDPAddr).Port)
	b.TCP443 = n.tcp443()

	first := netip.AddrPortFrom(pubAddrs[0], stunPorts[0])
	for i, to := range []netip.AddrPort{first, other(first, true, false), other(first, true, true), other(first, false, true)} {
		b.Mapped[i], _ = askSTUN(socks[0], to, 0)
		b.UDP = b.UDP || b.Mapped[i].IsValid()
		if i == 0 && !b.UDP {
			return b, nil
		}
	}
	b.Mapping, b.Ports = mappingOf(b.Mapped), portsOf(b.Mapped, b.Local)
	b.Filtering = filteringOf(socks[1], first)
	b.Hairpin = hairpins(socks[0], socks[2], first, b.Mapped[0])
	return b, nil
}

func mappingOf(m [4]netip.AddrPort) Dependence {
	switch {
	case m[0] == m[1] && m[0] == m[2] && m[0] == m[3]:
		return Independent
	case m[0] == m[3] && m[1] == m[2]:
		return OnAddress
	}
	return OnAddressPort
}

func portsOf(m [4]netip.AddrPort, local uint16) Ports {
	preserved, sequential := true, true
	for i := range m {
		preserved = preserved && m[i].Port() == local
		sequential = sequential && (i == 0 || m[i].Port() == m[i-1].Port()+1)
	}
	switch {
	case preserved:
		return Preserved
	case sequential:
		return Sequential
	}
	return Changed
}

// filteringOf asks a server that only c's packets to it have opened the way for
// to answer from elsewhere.
func filteringOf(c *net.UDPConn, server netip.AddrPort) Dependence {
	askSTUN(c, server, 0)
	if _, err := askSTUN(c, server, changeAddr|changePort); err == nil {
		return Independent
	}
	if _, err := askSTUN(c, server, changePort); err == nil {
		return OnAddress
	}
	return OnAddressPort
}

// hairpins sends from one socket of a host to the outside endpoint of another.
func hairpins(to, from *net.UDPConn, server, mapped netip.AddrPort) bool {
	askSTUN(from, server, 0)
	word := []byte("hairpin " + rand.Text())
	packet := make([]byte, 2048)
	for range answerless {
		from.WriteToUDPAddrPort(word, mapped)
		to.SetReadDeadline(time.Now().Add(answerTime))
		for {
			n, err := to.Read(packet)
			if err != nil {
				break
			}
			if string(packet[:n]) == string(word) {
				return true
			}
		}
	}
	return false
}

// tcp443 reports whether a TCP connection to port 443 outside is answered; a
// refusal is an answer.
func (n *Node) tcp443() bool {
	c, err := netns.Inside(n.Host, func() (net.Conn, error) {
		return net.DialTimeout("tcp4", netip.AddrPortFrom(pubAddrs[0], 443).String(), tcpPatience)
	})
	if err == nil {
		c.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED)
}

var errNoAnswer = errors.New("no answer")

// askSTUN sends a binding request, repeated when no answer comes, and returns
// the address the server saw. Other packets that arrive are lost.
func askSTUN(c *net.UDPConn, server netip.AddrPort, change uint32) (netip.AddrPort, error) {
	var id stunwire.TxID
	rand.Read(id[:])
	request := appendRequest(nil, id, change)
	packet := make([]byte, 2048)
	for range answerless {
		if _, err := c.WriteToUDPAddrPort(request, server); err != nil {
			return netip.AddrPort{}, err
		}
		c.SetReadDeadline(time.Now().Add(answerTime))
		for {
			n, err := c.Read(packet)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return netip.AddrPort{}, err
				}
				break // the time is over
			}
			if m, err := stunwire.Parse(packet[:n]); err == nil && m.Class == stunwire.Success && m.ID == id && m.Mapped.IsValid() {
				return m.Mapped, nil
			}
		}
	}
	return netip.AddrPort{}, errNoAnswer
}
