//go:build linux

package paths

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"nexd/localapi"
	"nexd/test/cluster"
	"nexd/test/lab"
	"nexd/test/need"
	"nexd/test/netns"
)

// AppPort is where [Serve] answers on a member's loopback, and the port of the
// mesh that leads there.
const AppPort = 7000

// World is a lab in which the real programs run.
type World struct {
	*lab.Lab
	Cluster *cluster.Cluster
	// Service is `nexd serve` at the public site Home, on port 443: what lets
	// nothing else out reaches it there.
	Service *cluster.Service
	Home    *lab.Site

	t      netns.T
	regKey string

	mu sync.Mutex // held while the network is changed
}

// New builds a lab with the control service alone; args are further ones of
// nexd serve.
func New(t netns.T, args ...string) *World {
	t.Helper()
	need.Programs(t, "curl")
	w := &World{Lab: lab.New(t), Cluster: cluster.Over(t), t: t}
	w.Home = w.Site(lab.Public, lab.Options{Name: "svc"})
	w.Service = w.Cluster.ServeAt(w.adopt(w.Home.Node(1)), 443, args...)
	w.regKey = w.Service.RegKey()
	return w
}

func (w *World) adopt(n *lab.Node) *cluster.Node { return w.Cluster.Adopt(n.Host, n.V4, n.V6) }

// Change does something to the network; nobody else changes it meanwhile.
func (w *World) Change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// Member is `nexd proxy` at a node of the lab. Its device has the node's name,
// and AppPort of its mesh address leads to AppPort on its host.
type Member struct {
	*cluster.Proxy
	At   *lab.Node
	Name string
}

// Join starts a proxy with further arguments; it is ready some time later.
func (w *World) Join(n *lab.Node, args ...string) *Member {
	w.t.Helper()
	return w.JoinAs(w.adopt(n), n, n.Name, args...)
}

// JoinAs is Join with a name of its own: several on one host.
func (w *World) JoinAs(host *cluster.Node, n *lab.Node, name string, args ...string) *Member {
	w.t.Helper()
	app := fmt.Sprintf("%d:127.0.0.1:%d", AppPort, AppPort)
	args = append([]string{"--reg-key", w.regKey, "--ingress", "tcp:" + app, "--ingress", "udp:" + app}, args...)
	return &Member{Proxy: w.Cluster.ProxyIn(host, name, args...), At: n, Name: name}
}

// To returns the arguments of Join that lead a local port, of TCP and of UDP,
// to a peer's AppPort.
func To(port int, peer string) []string {
	rule := fmt.Sprintf("%d:%s:%d", port, peer, AppPort)
	return []string{"--egress", "tcp:" + rule, "--egress", "udp:" + rule}
}

// Path is how a member reaches a peer now.
func (m *Member) Path(peer *Member) (localapi.PathStatus, error) {
	p, err := m.Peer(peer.Name)
	return p.Path, err
}

// OnRelay waits until the member is connected to a relay, and returns the
// addresses of all it is connected to; an error after limit.
func (m *Member) OnRelay(limit time.Duration) (urls []string, err error) {
	err = Until(limit, func() error {
		st, err := m.Look()
		if err != nil {
			return err
		}
		for _, r := range st.Relays {
			if r.Connected {
				urls = append(urls, r.URL)
			}
		}
		if len(urls) == 0 {
			return fmt.Errorf("%s is connected to none of %d relays", m.Name, len(st.Relays))
		}
		return nil
	})
	return urls, err
}

// Reaches waits until both members reach each other by a path of one kind; an
// error that says by what instead, after limit.
func Reaches(a, b *Member, kind string, limit time.Duration) error {
	return Until(limit, func() error {
		there, err := a.Path(b)
		back, err2 := b.Path(a)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if there.Kind != kind || back.Kind != kind {
			return fmt.Errorf("%s reaches %s by %s and back by %s, want %s", a.Name, b.Name, Show(there), Show(back), kind)
		}
		return nil
	})
}

// Relay starts `nexd relay` at a public site and waits until it is ready.
func (w *World) Relay(at *lab.Site) *cluster.Relay {
	w.t.Helper()
	return w.Service.Relay(w.adopt(at.Node(1)))
}

// RelayBetween is which relay of a list a member reaches a peer by.
func RelayBetween(m, peer *Member, relays []*cluster.Relay) (*cluster.Relay, error) {
	p, err := m.Path(peer)
	if err != nil {
		return nil, err
	}
	for _, r := range relays {
		if p.Kind == localapi.PathRelay && (p.Relay == r.Name || strings.Contains(p.Relay, r.Node.V4.String())) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s reaches %s by %s, by no relay of the list", m.Name, peer.Name, Show(p))
}

// Show is a path in a few words.
func Show(p localapi.PathStatus) string {
	switch p.Kind {
	case localapi.PathDirect:
		return "direct " + p.Endpoint
	case localapi.PathRelay:
		return "relay " + p.Relay
	}
	return p.Kind
}

// Until calls ok every 10 ms until it returns nil; its last error after limit.
func Until(limit time.Duration, ok func() error) error {
	end := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %s: %w", limit, err)
		}
		time.Sleep(10 * time.Millisecond) // the step of the poll
	}
}
