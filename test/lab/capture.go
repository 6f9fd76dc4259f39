//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"nexd/test/netns"
)

// Capture counts what passes a node's cable, from [Node.Watch] on.
type Capture struct {
	file *os.File
	own  [6]byte // the node's hardware address
	wg   sync.WaitGroup

	mu      sync.Mutex
	traffic Traffic // mu guards it and the fields below
	sent    map[packetID]bool
}

// Traffic is what passed, by direction as the node sees it.
type Traffic struct{ Out, In Packets }

// Packets counts by kind, a batch that the kernel has yet to cut as one. What a relay's data frame carries counts in its own
// kind too; TLS hides what it carries.
type Packets struct {
	Handshakes int // of WireGuard: initiations, responses and cookies
	Data       int // of WireGuard
	Doubled    int // of Data: sent before, in the same or another way
	Checks     int // STUN requests between peers
	Questions  int // STUN requests to servers
	Answers    int // of STUN
	Offers     int // through a relay
	RelayData  int // frames of a relay with a packet in them
	RelayOwn   int // other frames of a relay: its session and keepalive
	TCP        int
	UDP        int // other
	Other      int // ARP, ICMP and the like
}

// Minus is what came since an earlier count.
func (t Traffic) Minus(before Traffic) Traffic {
	return Traffic{t.Out.minus(before.Out), t.In.minus(before.In)}
}

func (p Packets) minus(q Packets) Packets {
	return Packets{
		p.Handshakes - q.Handshakes, p.Data - q.Data, p.Doubled - q.Doubled, p.Checks - q.Checks, p.Questions - q.Questions,
		p.Answers - q.Answers, p.Offers - q.Offers, p.RelayData - q.RelayData, p.RelayOwn - q.RelayOwn, p.TCP - q.TCP, p.UDP - q.UDP, p.Other - q.Other,
	}
}

// packetID names a WireGuard data packet: the receiver's index and the counter.
type packetID struct {
	index   uint32
	counter uint64
}

// maxIDs bounds what is remembered to notice doubled packets; then it is
// forgotten all at once.
const maxIDs = 1 << 18

// Watch begins to count what passes the node's cable. It ends with the lab, or
// when the node's cable is pulled for good, as by [Lab.Move].
func (n *Node) Watch() *Capture {
	n.site.lab.t.Helper()
	c := &Capture{sent: map[packetID]bool{}}
	file, err := netns.Inside(n.Host, func() (*os.File, error) { return c.open("eth0") })
	if err != nil {
		n.site.lab.t.Fatalf("%s: capture: %v", n.Name, err)
	}
	c.file = file
	c.wg.Go(c.read)
	n.site.lab.t.Cleanup(func() {
		c.file.Close()
		c.wg.Wait()
	})
	return c
}

// Totals returns the counts so far.
func (c *Capture) Totals() Traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.traffic
}

// open makes a packet socket on an interface (packet(7)).
func (c *Capture) open(name string) (*os.File, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	copy(c.own[:], i.HardwareAddr)
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // less is enough where it is refused
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (c *Capture) read() {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.file.Read(buf)
		if err != nil {
			return
		}
		if n >= 14 {
			c.count(buf[:n])
		}
	}
}

// count adds an Ethernet frame.
func (c *Capture) count(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.traffic.In
	out := [6]byte(frame[6:12]) == c.own
	if out {
		p = &c.traffic.Out
	}
	protocol, payload := transport(frame)
	switch {
	case protocol == unix.IPPROTO_TCP:
		p.TCP++
	case protocol != unix.IPPROTO_UDP || len(payload) < 8:
		p.Other++
	default:
		c.datagram(p, payload[8:], out)
	}
}

// transport returns the protocol and the payload of the IP packet in a frame;
// 0 where there is none.
func transport(frame []byte) (protocol byte, payload []byte) {
	ip := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(ip) < 20 {
			return 0, nil
		}
		if head := int(ip[0]&15) * 4; head <= len(ip) {
			return ip[9], ip[head:]
		}
	case unix.ETH_P_IPV6:
		if len(ip) >= 40 {
			return ip[6], ip[40:]
		}
	}
	return 0, nil
}

// Where a relay's frame has its packet (docs/relay.md), and what an offer in it
// begins with.
const (
	relayFrames  = 0xc0
	relayData    = 0xd0
	relayDataKey = 0xd1
	relayOffer   = 0x60
)

// datagram adds the payload of a UDP packet.
func (c *Capture) datagram(p *Packets, b []byte, out bool) {
	switch {
	case len(b) > 8 && b[0] == relayData:
		p.RelayData++
		c.inner(p, b[8:], out)
	case len(b) > 40 && b[0] == relayDataKey:
		p.RelayData++
		c.inner(p, b[40:], out)
	case len(b) >= 16 && b[0] >= relayFrames:
		p.RelayOwn++
	case !c.inner(p, b, out):
		p.UDP++
	}
}

// inner adds a packet as it travels directly or in a relay's frame; false: of
// no kind.
func (c *Capture) inner(p *Packets, b []byte, out bool) bool {
	switch {
	case len(b) >= 20 && b[0] < 4 && binary.BigEndian.Uint32(b[4:]) == 0x2112a442:
		switch {
		case b[0]&1 == 1 || b[1]&0x10 != 0:
			p.Answers++
		case hasUsername(b[20:]):
			p.Checks++
		default:
			p.Questions++
		}
	case len(b) >= 32 && b[0] >= 1 && b[0] <= 3 && b[1]|b[2]|b[3] == 0:
		p.Handshakes++
	case len(b) >= 32 && b[0] == 4 && b[1]|b[2]|b[3] == 0:
		p.Data++
		if out && c.seen(packetID{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])}) {
			p.Doubled++
		}
	case b[0] == relayOffer:
		p.Offers++
	default:
		return false
	}
	return true
}

// seen notes a packet and reports whether it was there.
func (c *Capture) seen(id packetID) bool {
	if c.sent[id] {
		return true
	}
	if len(c.sent) >= maxIDs {
		clear(c.sent)
	}
	c.sent[id] = true
	return false
}

// hasUsername looks for USERNAME among STUN attributes: checks between peers
// have it, questions to servers do not.
func hasUsername(b []byte) bool {
	for len(b) >= 4 {
		if binary.BigEndian.Uint16(b) == 0x0006 {
			return true
		}
		b = b[min(len(b), 4+(int(binary.BigEndian.Uint16(b[2:]))+3)&^3):]
	}
	return false
}
