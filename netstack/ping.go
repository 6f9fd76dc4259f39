package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	pingInterval = time.Second
	pingPayload  = 56 // bytes after the header, as ping(8) sends
)

// Ping sends an echo request each second until one is answered, and returns
// that one's round trip time. Without an answer it ends with the context.
func (s *Stack) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	to = to.Unmap()
	rtt, err := s.ping(ctx, to)
	if err != nil {
		return 0, opError("ping", "ip", nil, &net.IPAddr{IP: to.AsSlice()}, err)
	}
	return rtt, nil
}

func (s *Stack) ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	if err := s.checkOpen(); err != nil {
		return 0, err
	}
	remote := netip.AddrPortFrom(to, 1) // the port means nothing here
	if err := checkRemote(remote); err != nil {
		return 0, err
	}
	transport := icmp.ProtocolNumber4
	if to.Is6() {
		transport = icmp.ProtocolNumber6
	}
	var events waiter.Queue
	endpoint, terr := s.gvisor.NewEndpoint(transport, protocolOf(to), &events)
	if terr != nil {
		return 0, errno(terr)
	}
	defer endpoint.Close()
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	events.EventRegister(&entry)
	defer events.EventUnregister(&entry)
	full := fullOf(remote)
	full.Port = 0
	if terr := endpoint.Connect(full); terr != nil {
		return 0, errno(terr)
	}

	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	sent := make(map[uint16]time.Time)
	for sequence := uint16(1); ; sequence++ {
		delete(sent, sequence-16) // an answer that late is none
		sent[sequence] = time.Now()
		if _, terr := endpoint.Write(bytes.NewReader(echoRequest(to, sequence)), tcpip.WriteOptions{}); terr != nil {
			if err := s.checkOpen(); err != nil {
				return 0, err
			}
			return 0, errno(terr)
		}
		for waiting := true; waiting; {
			if answered, ok := echoReply(endpoint, to); ok {
				if at, ok := sent[answered]; ok {
					return time.Since(at), nil
				}
				continue
			}
			select {
			case <-readable:
			case <-tick.C:
				waiting = false
			case <-s.link.queue.done:
				if err := s.checkOpen(); err != nil {
					return 0, err
				}
				return 0, net.ErrClosed
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
}

// echoRequest is an ICMP (RFC 792) or ICMPv6 (RFC 4443) echo request; gVisor
// fills in identifier and checksum. Both have the sequence at byte 6.
func echoRequest(to netip.Addr, sequence uint16) []byte {
	b := make([]byte, header.ICMPv4MinimumSize+pingPayload)
	b[0] = byte(header.ICMPv4Echo)
	if to.Is6() {
		b[0] = byte(header.ICMPv6EchoRequest)
	}
	binary.BigEndian.PutUint16(b[6:], sequence)
	return b
}

// echoReply reads the next message and returns its sequence; ok is false when
// none is there.
func echoReply(endpoint tcpip.Endpoint, from netip.Addr) (sequence uint16, ok bool) {
	want := byte(header.ICMPv4EchoReply)
	if from.Is6() {
		want = byte(header.ICMPv6EchoReply)
	}
	for {
		b := make([]byte, header.ICMPv4MinimumSize+pingPayload)
		w := tcpip.SliceWriter(b)
		result, err := endpoint.Read(&w, tcpip.ReadOptions{})
		if err != nil {
			return 0, false
		}
		if result.Count >= header.ICMPv4MinimumSize && b[0] == want {
			return binary.BigEndian.Uint16(b[6:]), true
		}
	}
}
