package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.zx2c4.com/wireguard/tun/netstack"
)

// child runs one of the programs the product is measured against, or the load.
func child(args []string) error {
	raiseFiles()
	switch {
	case len(args) == 1 && args[0] == "agent":
		return serveAgent()
	case len(args) == 3 && args[0] == "plain": // LISTEN TARGET
		return forward(host{}, args[1], host{}, args[2])
	case len(args) == 3 && args[0] == "stock-ingress": // PORT TARGET
		mesh, err := stock(1, args[1], "")
		if err != nil {
			return err
		}
		return forward(stockNet{mesh}, stockService, host{}, args[2])
	case len(args) == 4 && args[0] == "stock-egress": // PORT PEER LISTEN
		mesh, err := stock(2, args[1], args[2])
		if err != nil {
			return err
		}
		return forward(host{}, args[3], stockNet{mesh}, stockService)
	case len(args) == 3 && args[0] == "stock-idle": // PEERS LISTENERS
		peers, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		listeners, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return stockIdle(peers, listeners)
	case len(args) == 2 && args[0] == "members": // N, and a registration key on standard input
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		key, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		return members(strings.TrimSpace(string(key)), n)
	case len(args) == 4 && args[0] == "kernel": // ID PORT PEER
		return kernel(args[1], args[2], args[3])
	}
	return fmt.Errorf("child: unknown arguments %q", args)
}

// stockService is where the stock ingress listens inside the mesh.
var stockService = netip.AddrPortFrom(meshAddr(1), 80).String()

// network is the host's or the mesh's; one forwarder joins any two.
type network interface {
	listen(addr string) (net.Listener, net.PacketConn, error)
	dial(network, addr string) (net.Conn, error)
}

type host struct{}

func (host) listen(addr string) (net.Listener, net.PacketConn, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	p, err := net.ListenPacket("udp", addr)
	return l, p, err
}

func (host) dial(network, addr string) (net.Conn, error) { return net.Dial(network, addr) }

type stockNet struct{ *netstack.Net }

func (n stockNet) listen(addr string) (net.Listener, net.PacketConn, error) {
	at := netip.MustParseAddrPort(addr)
	l, err := n.ListenTCPAddrPort(at)
	if err != nil {
		return nil, nil, err
	}
	p, err := n.ListenUDPAddrPort(at)
	return l, p, err
}

func (n stockNet) dial(network, addr string) (net.Conn, error) {
	return n.DialContext(context.Background(), network, addr)
}

// forward carries TCP and UDP from an address of one network to one of another,
// as simply as Go allows.
func forward(from network, addr string, to network, target string) error {
	l, p, err := from.listen(addr)
	if err != nil {
		return err
	}
	go forwardUDP(p, func() (net.Conn, error) { return to.dial("udp", target) })
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			d, err := to.dial("tcp", target)
			if err != nil {
				return
			}
			defer d.Close()
			var wg sync.WaitGroup
			wg.Go(func() { pipe(d, c) })
			pipe(c, d)
			wg.Wait()
		}()
	}
}

func forwardUDP(p net.PacketConn, dial func() (net.Conn, error)) {
	flows := map[string]net.Conn{} // they live as long as the process, which is short
	buf := make([]byte, 65535)
	for {
		n, from, err := p.ReadFrom(buf)
		if err != nil {
			return
		}
		d := flows[from.String()]
		if d == nil {
			if d, err = dial(); err != nil {
				continue
			}
			flows[from.String()] = d
			go func() {
				buf := make([]byte, 65535)
				for {
					n, err := d.Read(buf)
					if err != nil {
						return
					}
					p.WriteTo(buf[:n], from)
				}
			}()
		}
		d.Write(buf[:n])
	}
}
