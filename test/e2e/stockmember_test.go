//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/discovery"
	"nexd/key"
	"nexd/test/cluster"
	"nexd/test/need"
)

// companion is what a stock peer lacks to be a member, as a program of its own: it
// joins with the peer's key and answers checks. WireGuard's packets it never sees.
type companion struct {
	Private string // of the stock peer
	RegKey  string
	Name    string
	Port    uint16     // where checks come
	Address netip.Addr // of the host
}

// asCompanion holds a companion in JSON, in the environment of a test binary that
// is to be one.
const asCompanion = "NEXD_TEST_COMPANION"

// news is what a companion prints, a line each.
type news struct {
	Joined []netip.Addr   `json:",omitempty"` // its addresses in the mesh
	Peer   key.Public     `json:",omitzero"`
	Path   netip.AddrPort `json:",omitzero"` // where checks found the peer
}

// TestCompanion is no test: TestStockMember runs it as a program.
func TestCompanion(t *testing.T) {
	text := os.Getenv(asCompanion)
	if text == "" {
		return
	}
	var c companion
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// run is a member without a data plane; it ends with the process.
func (c *companion) run(ctx context.Context) error {
	private, err := key.ParsePrivate(c.Private)
	if err != nil {
		return err
	}
	regKey, err := controlapi.ParseRegKey(c.RegKey)
	if err != nil {
		return err
	}
	client, err := controlclient.New(controlclient.Config{ServiceURL: regKey.ServiceURL, Pin: regKey.Pin})
	if err != nil {
		return err
	}
	resp, err := client.Join(ctx, controlclient.JoinParams{Private: private, RegKey: c.RegKey, Name: c.Name})
	if err != nil {
		return err
	}
	tell(news{Joined: resp.Device.Addresses})

	socket, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(c.Port)})
	if err != nil {
		return err
	}
	agent := discovery.New(discovery.Config{
		Private: private, Socket: checks{socket}, Paths: toldPaths{}, LocalIP: c.Address,
		Signal: func(ctx context.Context, to key.Public, sealed []byte) error {
			delivered, err := client.Signal(ctx, resp.Credential, controlapi.Signal{To: to, Payload: sealed})
			if err == nil && !delivered {
				err = errors.New("the peer is not there")
			}
			return err
		},
	})
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := socket.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			agent.HandleSTUN(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	}()
	go agent.Run(ctx)

	var members controlapi.Map
	return client.Watch(ctx, controlclient.WatchConfig{Credential: resp.Credential, On: func(ev controlapi.Event) {
		if ev.Type == controlapi.EventSignal && ev.Signal != nil {
			agent.HandleSignal(ev.Signal.From, ev.Signal.Payload)
			return
		}
		controlclient.Apply(&members, ev)
		peers := make([]discovery.Peer, len(members.Peers))
		for i, p := range members.Peers {
			peers[i].Key = p.PublicKey
		}
		agent.SetPeers(peers)
		for _, p := range peers {
			agent.Want(p.Key)
		}
	}})
}

func tell(n news) {
	text, _ := json.Marshal(n)
	fmt.Printf("\n%s\n", text)
}

// checks is the companion's socket.
type checks struct{ c *net.UDPConn }

func (s checks) WriteSTUN(pkt []byte, to netip.AddrPort) error {
	_, err := s.c.WriteToUDPAddrPort(pkt, to)
	return err
}

func (s checks) WriteRelay(uint16, key.Public, []byte) error { return syscall.ENETUNREACH }

func (s checks) WriteWhole(_ []byte, _ key.Public, _ netip.AddrPort) error {
	return errors.ErrUnsupported
}

func (s checks) Port() uint16 { return uint16(s.c.LocalAddr().(*net.UDPAddr).Port) }

// toldPaths prints paths.
type toldPaths struct{}

func (toldPaths) SetRoute(peer key.Public, path, _ netip.AddrPort, _ bool) {
	tell(news{Peer: peer, Path: path})
}

// heard returns the latest news that fit.
func heard(p *cluster.Proc, fits func(news) bool) (found news, err error) {
	err = errors.New("nothing is heard")
	if !p.Running() {
		err = errors.New("it ended")
	}
	for line := range strings.Lines(p.Log()) {
		var n news
		if json.Unmarshal([]byte(line), &n) == nil && fits(n) {
			found, err = n, nil
		}
	}
	return found, err
}

// TestStockMember: a stock peer that is a member, as a companion joined with its key
// and answers checks, talks with a real `nexd proxy`, which cannot know that
// it is another program.
func TestStockMember(t *testing.T) {
	need.Programs(t, "wireguard-go", "wg", "nft", "curl")
	const port = 41641
	c := cluster.New(t)
	svc := c.Serve()
	regKey := svc.RegKey()
	node, host := c.Node("proxy"), c.Node("stock")
	private := key.NewPrivate()

	setup, err := json.Marshal(companion{Private: private.Reveal(), RegKey: regKey, Name: "stock", Port: port, Address: host.V4})
	if err != nil {
		t.Fatal(err)
	}
	cmd := host.Command(os.Args[0], "-test.run=^TestCompanion$")
	cmd.Env = append(os.Environ(), asCompanion+"="+string(setup))
	helper := host.Start("companion", cmd)
	var joined news
	cluster.Until(t, 20*time.Second, "the companion joins", func() (err error) {
		joined, err = heard(helper, func(n news) bool { return len(n.Joined) > 0 })
		return err
	})
	peer := startStock(t, host.Host, private, 1420, joined.Joined...)
	// Checks and WireGuard come to one port, as everything of a member does.
	host.NFT(fmt.Sprintf(`table inet split {
		chain in {
			type filter hook prerouting priority raw
			udp dport %d @th,64,8 >= 1 @th,64,8 <= 4 @th,72,24 0 udp dport set %d
		}
		chain out {
			type filter hook output priority raw
			udp sport %d udp sport set %d
		}
	}`, port, stockPort, stockPort, port))

	proxy := c.Proxy(node, "--reg-key", regKey,
		"--ingress", "tcp:80:127.0.0.1:9000", "--ingress", "udp:80:127.0.0.1:9000",
		"--egress", "tcp:7000:stock:8000", "--egress", "udp:7000:stock:8000").Ready()
	st, err := proxy.Status()
	if err != nil {
		t.Fatal(err)
	}
	var found news
	cluster.Until(t, 20*time.Second, "checks find the proxy", func() (err error) {
		found, err = heard(helper, func(n news) bool { return n.Peer == st.Device.PublicKey && n.Path.IsValid() })
		return err
	})
	peer.add(found.Peer, netip.AddrPort{}, st.Device.Addresses...)
	proxy.Direct("stock")

	// at is an application: it listens at one address of a host, and dials another.
	at := func(name string, n *cluster.Node, listen, dial string) side {
		return side{
			name: name, addr: []netip.Addr{netip.MustParseAddr("0.0.0.0")},
			listen: func(netip.AddrPort) (net.Listener, error) {
				return inside(n, func() (net.Listener, error) { return net.Listen("tcp", listen) })
			},
			dial: func(network string, _ netip.AddrPort) (net.Conn, error) { return tryDial(n, network, dial) },
		}
	}
	app := at("application", node, "127.0.0.1:9000", "127.0.0.1:7000")
	far := at("stock", host, net.JoinHostPort(joined.Joined[0].String(), "8000"), net.JoinHostPort(proxy.V4(), "80"))
	datagrams := func(client side) {
		u, err := client.dial("udp", netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for _, size := range []int{1, 1200, 1392, 1393, 1472, 9000, 65507} {
			if err := exchange(u, make([]byte, size)); err != nil {
				t.Errorf("%s sends %d bytes: %v", client.name, size, err)
			}
		}
	}
	listenUDP(t, node, "127.0.0.1:9000", "")
	listenUDP(t, host, net.JoinHostPort(joined.Joined[0].String(), "8000"), "")

	// The stock peer has no endpoint until nexd has begun.
	datagrams(app)
	peer.began("nexd has a session, and began it", -1, 0)
	datagrams(far)
	for _, pair := range [][2]side{{app, far}, {far, app}} {
		for _, talk := range []func(net.Conn, bool) error{oneAfterTheOther, bothAtOnce} {
			if err := converse(pair[0], pair[1], 0, talk); err != nil {
				t.Errorf("%s dials %s: %v", pair[0].name, pair[1].name, err)
			}
		}
	}
	// It forgets its session, and begins itself.
	peer.forget(found.Peer)
	peer.add(found.Peer, found.Path, st.Device.Addresses...)
	datagrams(far)
	peer.began("the stock peer lost its session and made another", 0, -1)
	datagrams(app)
}
