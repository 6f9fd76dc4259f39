package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

// child runs one of the proxies the product is measured against.
func child(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "plain":
		l, err := net.Listen("tcp", args[1])
		if err != nil {
			return err
		}
		return relay(l, func() (net.Conn, error) { return net.Dial("tcp", args[2]) })
	case len(args) == 3 && args[0] == "stock-ingress":
		tnet, err := stock(1, args[1], "")
		if err != nil {
			return err
		}
		l, err := tnet.ListenTCP(&net.TCPAddr{Port: 80})
		if err != nil {
			return err
		}
		return relay(l, func() (net.Conn, error) { return net.Dial("tcp", args[2]) })
	case len(args) == 4 && args[0] == "stock-egress":
		tnet, err := stock(2, args[1], args[2])
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", args[3])
		if err != nil {
			return err
		}
		to := netip.AddrPortFrom(stockAddr(1), 80)
		return relay(l, func() (net.Conn, error) { return tnet.DialContextTCPAddrPort(context.Background(), to) })
	}
	return fmt.Errorf("child: unknown arguments %q", args)
}

// relay copies both ways with half-close, as simply as Go allows.
func relay(l net.Listener, dial func() (net.Conn, error)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			d, err := dial()
			if err != nil {
				return
			}
			defer d.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				pipe(d, c)
			}()
			pipe(c, d)
			<-done
		}()
	}
}

func pipe(dst, src net.Conn) {
	io.Copy(dst, src)
	if w, ok := dst.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
}

func stockAddr(id byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, id}) }

// stockKey is a fixed key: both processes must know both.
func stockKey(id byte) (private, public string, err error) {
	var k [32]byte
	for i := range k {
		k[i] = id
	}
	k[0] &= 248
	k[31] = k[31]&127 | 64
	pub, err := curve25519.X25519(k[:], curve25519.Basepoint)
	return hex.EncodeToString(k[:]), hex.EncodeToString(pub), err
}

// stock starts wireguard-go on its own netstack with one peer.
func stock(id byte, port, peer string) (*netstack.Net, error) {
	dev, tnet, err := netstack.CreateNetTUN([]netip.Addr{stockAddr(id)}, nil, 1420)
	if err != nil {
		return nil, err
	}
	other := 3 - id
	private, _, err := stockKey(id)
	if err != nil {
		return nil, err
	}
	_, public, err := stockKey(other)
	if err != nil {
		return nil, err
	}
	wg := device.NewDevice(dev, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	conf := fmt.Sprintf("private_key=%s\nlisten_port=%s\npublic_key=%s\nallowed_ip=%s/32\n", private, port, public, stockAddr(other))
	if peer != "" {
		conf += "endpoint=" + peer + "\n"
	}
	if err := wg.IpcSetOperation(bufio.NewReader(strings.NewReader(conf))); err != nil {
		return nil, err
	}
	return tnet, wg.Up()
}
