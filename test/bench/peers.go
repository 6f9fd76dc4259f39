package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"

	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

// mtu is that of every tunnel that is not to have another one.
const mtu = 1420

// meshAddr is the address of a member of the tunnels made here.
func meshAddr(id uint16) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(id >> 8), byte(id)})
}

// meshKey is a fixed key: each process must know that of the others.
func meshKey(id uint16) (private, public string) {
	var k [32]byte
	for i := range k {
		k[i] = 7
	}
	binary.BigEndian.PutUint16(k[8:], id)
	k[0] &= 248
	k[31] = k[31]&127 | 64
	pub, err := curve25519.X25519(k[:], curve25519.Basepoint)
	if err != nil {
		panic(err) // only of a low-order point
	}
	return hex.EncodeToString(k[:]), hex.EncodeToString(pub)
}

func peerConfig(id uint16, endpoint string) string {
	_, public := meshKey(id)
	conf := fmt.Sprintf("public_key=%s\nallowed_ip=%s/32\n", public, meshAddr(id))
	if endpoint != "" {
		conf += "endpoint=" + endpoint + "\n"
	}
	return conf
}

// wireguard starts wireguard-go over a device.
func wireguard(dev tun.Device, id uint16, port, peers string) error {
	private, _ := meshKey(id)
	wg := device.NewDevice(dev, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	conf := fmt.Sprintf("private_key=%s\nlisten_port=%s\n%s", private, port, peers)
	if err := wg.IpcSetOperation(bufio.NewReader(strings.NewReader(conf))); err != nil {
		return err
	}
	return wg.Up()
}

// stock starts wireguard-go on its own netstack; the other of the members 1 and
// 2 is its peer.
func stock(id uint16, port, peer string) (*netstack.Net, error) {
	dev, mesh, err := netstack.CreateNetTUN([]netip.Addr{meshAddr(id)}, nil, mtu)
	if err != nil {
		return nil, err
	}
	return mesh, wireguard(dev, id, port, peerConfig(3-id, peer))
}

// stockIdle has many peers and listeners, and nothing to do.
func stockIdle(peers, listeners int) error {
	dev, mesh, err := netstack.CreateNetTUN([]netip.Addr{meshAddr(1)}, nil, mtu)
	if err != nil {
		return err
	}
	var conf strings.Builder
	for i := range peers {
		conf.WriteString(peerConfig(uint16(2+i), ""))
	}
	if err := wireguard(dev, 1, "0", conf.String()); err != nil {
		return err
	}
	for i := range listeners {
		l, err := mesh.ListenTCP(&net.TCPAddr{Port: 1000 + i})
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

// kernel starts wireguard-go on a kernel TUN device, which the other of the
// members 1 and 2 is reached through.
func kernel(id, port, peer string) error {
	var me uint16
	if _, err := fmt.Sscan(id, &me); err != nil {
		return err
	}
	dev, err := tun.CreateTUN("wg0", mtu)
	if err != nil {
		return err
	}
	if err := wireguard(dev, me, port, peerConfig(3-me, peer)); err != nil {
		return err
	}
	for _, args := range []string{"addr add " + meshAddr(me).String() + "/24 dev wg0", "link set wg0 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	select {}
}

// pipe copies one direction, with half-close.
func pipe(dst, src net.Conn) {
	io.Copy(dst, src)
	if w, ok := dst.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
}
