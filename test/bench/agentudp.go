package main

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// datagramSize is the payload of the load's datagrams.
	datagramSize = 1200
	// batchSize is how many datagrams one system call of the load moves.
	batchSize = 64
)

func messages(size int) []ipv4.Message {
	ms := make([]ipv4.Message, batchSize)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, size)}
	}
	return ms
}

// roomy gives a socket buffers that are not what the test is about.
func roomy(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		for option, plain := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 16<<20) != nil {
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, plain, 16<<20)
			}
		}
	})
}

// listenUDP counts datagrams of the load and sends others back.
func (a *Agent) listenUDP(addr string) error {
	at, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp4", at)
	if err != nil {
		return err
	}
	roomy(c)
	p := ipv4.NewPacketConn(c)
	go func() {
		ms := messages(2048)
		for {
			n, err := p.ReadBatch(ms, 0)
			if err != nil {
				return
			}
			for i := range ms[:n] {
				if ms[i].N == datagramSize {
					a.datagrams.Add(1)
					continue
				}
				c.WriteTo(ms[i].Buffers[0][:ms[i].N], ms[i].Addr)
			}
		}
	}()
	return nil
}

// TryUDP sends a datagram and waits for its echo, shortly.
func (a *Agent) TryUDP(addr string, _ *Nothing) error {
	c, err := net.Dial("udp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := c.Write([]byte("are you there")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 64))
	return err
}

// Poke sends a datagram that nobody answers.
func (a *Agent) Poke(addr string, _ *Nothing) error {
	c, err := net.Dial("udp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("are you there"))
	return err
}

// Flood says how many datagrams are offered each second.
type Flood struct {
	Addr   string
	Rate   int
	Length time.Duration
}

// Flooded is what was sent, in which time.
type Flooded struct {
	N    int
	Took time.Duration
}

// Send offers datagrams at a rate, each millisecond what is due. What the
// machine is too slow for is not made up for.
func (a *Agent) Send(f Flood, r *Flooded) error {
	to, err := net.ResolveUDPAddr("udp4", f.Addr)
	if err != nil {
		return err
	}
	c, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		return err
	}
	defer c.Close()
	roomy(c)
	c.SetDeadline(time.Now().Add(f.Length + patience))
	p := ipv4.NewPacketConn(c)
	ms := messages(datagramSize)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	due := 0.0
	for last := begun; ; {
		now := <-tick.C
		if now.Sub(begun) >= f.Length {
			break
		}
		due += min(now.Sub(last).Seconds(), 0.01) * float64(f.Rate)
		last = now
		for due >= 1 {
			n, err := p.WriteBatch(ms[:min(int(due), batchSize)], 0)
			if err != nil {
				return fmt.Errorf("after %d datagrams: %w", r.N, err)
			}
			r.N += n
			due -= float64(n)
		}
	}
	r.Took = time.Since(begun)
	return nil
}
