package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// env is what systems are started from.
type env struct {
	ctx               context.Context
	dir               string // of logs and state
	self              string // this program
	nexd, nexctl, old string // the product's, and an older nexd or nothing
	shared            error  // why systems cannot have namespaces, or nil
	started           int
}

// The names of the systems.
const (
	plainName  = "plain proxies"
	stockName  = "stock netstack"
	kernelName = "kernel TUN"
	nexdName   = "nexd"
	oldName    = "old nexd"
	raisedName = "nexd raised"
	bbrName    = "kernel TUN, BBR"
)

// kind is a kind of system.
type kind struct {
	name, what string
	apart      bool   // needs two namespaces
	isolated   bool   // needs at least one
	old        bool   // needs an older nexd
	tcp        string // congestion control of the load's sockets; empty: cubic
	start      func(e *env, s *system) error
}

var kinds = []kind{
	{name: plainName, what: "two chained TCP proxies in Go, no tunnel: the ceiling", start: startPlain},
	{name: stockName, what: "the same job on wireguard-go's own netstack, MTU 1420: the yardstick", start: startStock},
	{name: kernelName, what: "wireguard-go on kernel TUN devices in two namespaces, no proxies; TCP is the kernel's, CUBIC", apart: true, isolated: true, start: startKernel},
	{name: nexdName, what: "two `nexd proxy`, direct, MTU 1420 (`--mtu`) as the stock netstack", start: nexdOf(nexdOptions{path: "direct", mtu: mtu})},
	{name: oldName, what: "the nexd it is compared with, in the same way", old: true, start: nexdOf(nexdOptions{path: "direct", mtu: mtu, old: true})},
	{name: raisedName, what: "the same without `--mtu`: it finds that this path carries 8,920 bytes", start: nexdOf(nexdOptions{path: "direct"})},
	{name: "nexd udp relay", what: "MTU 1420; direct packets are dropped, the service's relay carries them by UDP", isolated: true, start: nexdOf(nexdOptions{path: "udp", mtu: mtu})},
	{name: "nexd tls relay", what: "MTU 1420; all UDP is dropped, the service's relay carries packets by TLS", isolated: true, start: nexdOf(nexdOptions{path: "tls", mtu: mtu})},
}

// lossyKinds are the systems over a cable with delay and losses.
var lossyKinds = []kind{
	{name: stockName, apart: true, isolated: true, start: startStock},
	{name: kernelName, apart: true, isolated: true, start: startKernel},
	{name: bbrName, apart: true, isolated: true, tcp: "bbr", start: startKernel},
	{name: nexdName, apart: true, isolated: true, start: nexdOf(nexdOptions{path: "direct", mtu: mtu})},
	{name: oldName, apart: true, isolated: true, old: true, start: nexdOf(nexdOptions{path: "direct", mtu: mtu, old: true})},
}

// system is one way from a client to a server: processes, of which some count.
type system struct {
	name           string
	env            *env
	client, server *load
	wire           *load // the cable between them, if it is one of ours
	// The places of client and server; often the same one.
	at, far *place
	// addr is where the client connects to, TCP and UDP.
	addr  string
	procs []*proc
	// counted are the proxies, the one at the server first.
	counted []*proc
	// ops are where these tell their metrics, if they do.
	ops [2]string
	// path says whether packets still take the way the system is about; nil: they must.
	path func() error

	listens string // the server's port
	given   int    // ports given out in a place of its own
}

// delay is what a packet takes over a cable of ours: a round trip is 40 ms.
const delay = 20 * time.Millisecond

// bring starts a system of a kind and waits until it works. Its cable is ours
// when lossy.
func (e *env) bring(k kind, lossy bool) (*system, error) {
	s := &system{name: k.name, env: e}
	err := s.build(k, lossy)
	if err == nil {
		err = k.start(e, s)
	}
	if err == nil {
		err = s.await()
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// build makes the places and the load.
func (s *system) build(k kind, lossy bool) (err error) {
	e := s.env
	e.started++
	s.at, s.far = &place{}, &place{}
	agent := func(name string, at *place) (*load, error) {
		fresh := e.shared == nil && at.holder == 0
		l, err := newLoad(e.dir, fmt.Sprintf("%s-%d", name, e.started), at.command(e.self, "child", "agent"), fresh)
		if err != nil {
			return nil, err
		}
		s.procs = append(s.procs, l.proc)
		if fresh {
			at.holder = l.pid()
			err = at.prepare()
		}
		return l, err
	}
	if s.server, err = agent("server", s.far); err != nil {
		return err
	}
	if !k.apart {
		s.at = s.far
	}
	if s.client, err = agent("client", s.at); err != nil {
		return err
	}
	switch {
	case lossy:
		err = s.cable(agent)
	case k.apart:
		err = join(s.at, s.far)
	}
	if err != nil {
		return err
	}
	if e.shared != nil {
		return s.server.call("Listen", s.target("127.0.0.1"), &Nothing{}, patience)
	}
	for _, l := range []*load{s.client, s.server} {
		if err := l.call("TCP", cmp.Or(k.tcp, "cubic"), &Nothing{}, patience); err != nil {
			return err
		}
	}
	return s.server.call("Listen", s.target("0.0.0.0"), &Nothing{}, patience)
}

// cable connects client and server by a cable of ours.
func (s *system) cable(agent func(string, *place) (*load, error)) (err error) {
	if s.wire, err = agent("cable", s.at); err != nil {
		return err
	}
	if err := s.wire.call("Wire", WireArgs{delay}, &Nothing{}, patience); err != nil {
		return err
	}
	return errors.Join(
		s.at.ip("link set "+wireEnds[1]+" netns "+strconv.Itoa(s.far.holder), "link set "+wireEnds[0]+" name eth0"),
		s.far.ip("link set "+wireEnds[1]+" name eth0"),
		address(s.at, "192.0.2.2"), address(s.far, "192.0.2.1"),
	)
}

// firstPort is below those the kernel gives out in a place of ours.
const firstPort = 9000

// target is the server's address at one of its IPs.
func (s *system) target(ip string) string {
	if s.listens == "" {
		s.listens = s.port()
	}
	return net.JoinHostPort(ip, s.listens)
}

// port is one that nobody has, TCP and UDP.
func (s *system) port() string {
	if s.env.shared == nil {
		s.given++
		return strconv.Itoa(firstPort + s.given)
	}
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "0" // it will fail where it is used
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		u, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
}

// run starts a process of the system that counts, or not.
func (s *system) run(at *place, counts bool, environ []string, name string, args ...string) (*proc, error) {
	cmd := at.command(name, args...)
	if environ != nil {
		cmd.Env = append(cmd.Environ(), environ...)
	}
	p, err := start(s.env.dir, filepath.Base(name), cmd)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	if counts {
		s.counted = append(s.counted, p)
	}
	return p, nil
}

// alive is the error of a process that ended.
func (s *system) alive() error {
	for _, p := range s.procs {
		if err := p.ended(); err != nil {
			return err
		}
	}
	return nil
}

// await waits until bytes and datagrams come back through the system, by the
// path it is about.
func (s *system) await() error {
	err := s.until(40*time.Second, func() error { return s.client.call("Try", s.addr, &Nothing{}, 2*patience) })
	if err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	err = s.until(10*time.Second, func() error { return s.client.call("TryUDP", s.addr, &Nothing{}, patience) })
	if err != nil {
		return fmt.Errorf("UDP: %w", err)
	}
	if s.path == nil {
		return nil
	}
	return s.until(20*time.Second, s.path)
}

func (s *system) until(limit time.Duration, ok func() error) error {
	ctx, cancel := context.WithTimeout(s.env.ctx, limit)
	defer cancel()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if dead := s.alive(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// cpu returns the CPU seconds the proxies have used.
func (s *system) cpu() (sum float64, err error) {
	for _, p := range s.counted {
		c, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += c
	}
	return sum, nil
}

// settle cuts the load and waits until the proxies have nothing to do any more.
func (s *system) settle() {
	s.client.call("Drop", Nothing{}, &Nothing{}, patience)
	const step, idle = 50 * time.Millisecond, 0.05 // of one CPU
	before, err := s.cpu()
	for range 40 {
		if err != nil || s.env.ctx.Err() != nil {
			return
		}
		time.Sleep(step)
		var now float64
		if now, err = s.cpu(); now-before < idle*step.Seconds() {
			return
		}
		before = now
	}
}

func (s *system) stop() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		s.procs[i].kill()
	}
}

// startPlain chains two TCP proxies that only copy.
func startPlain(e *env, s *system) error {
	mid := "127.0.0.1:" + s.port()
	s.addr = "127.0.0.1:" + s.port()
	_, err := s.run(s.far, true, nil, e.self, "child", "plain", mid, s.target("127.0.0.1"))
	if err == nil {
		_, err = s.run(s.at, true, nil, e.self, "child", "plain", s.addr, mid)
	}
	return err
}

// ends are the UDP ports of two tunnels, and the address the one at the client
// sends to.
func (s *system) ends() (ingress, egress, peer string) {
	ingress, egress = s.port(), s.port()
	ip := "127.0.0.1"
	if s.at != s.far {
		ip = "192.0.2.1"
	}
	return ingress, egress, net.JoinHostPort(ip, ingress)
}

// startStock joins two processes by wireguard-go's own netstack.
func startStock(e *env, s *system) error {
	ingress, egress, peer := s.ends()
	s.addr = "127.0.0.1:" + s.port()
	_, err := s.run(s.far, true, nil, e.self, "child", "stock-ingress", ingress, s.target("127.0.0.1"))
	if err == nil {
		_, err = s.run(s.at, true, nil, e.self, "child", "stock-egress", egress, peer, s.addr)
	}
	return err
}

// startKernel joins two namespaces by wireguard-go on kernel TUN devices.
func startKernel(e *env, s *system) error {
	ingress, egress, peer := s.ends()
	s.addr = s.target(meshAddr(1).String())
	_, err := s.run(s.far, true, nil, e.self, "child", "kernel", "1", ingress, "")
	if err == nil {
		_, err = s.run(s.at, true, nil, e.self, "child", "kernel", "2", egress, peer)
	}
	return err
}
