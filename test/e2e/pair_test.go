//go:build linux

package e2e

import (
	"net"
	"strconv"
	"testing"
	"time"

	"nexd/test/cluster"
)

// pair is the main job: a service, a host with the servers (ingress) and a host
// with the clients (egress), both proxies direct to each other.
type pair struct {
	*cluster.Cluster
	svc            *cluster.Service
	server, client *cluster.Node
	ingress        *cluster.Proxy
	egress         *cluster.Proxy
}

// newPair starts a pair. The ingress device is called "server"; rules are given
// as the arguments of the two proxies.
func newPair(t *testing.T, ingress, egress []string) *pair {
	t.Helper()
	c := cluster.New(t)
	p := &pair{Cluster: c, svc: c.Serve()}
	key := p.svc.RegKey()
	p.server, p.client = c.Node("server"), c.Node("client")
	p.ingress = c.Proxy(p.server, append([]string{"--reg-key", key}, ingress...)...)
	p.egress = c.Proxy(p.client, append([]string{"--reg-key", key}, egress...)...)
	p.ingress.Ready()
	p.egress.Ready()
	return p
}

// awaitTCP waits until something listens on a port inside the node.
func awaitTCP(t *testing.T, n *cluster.Node, host string, port int) {
	t.Helper()
	cluster.Until(t, 20*time.Second, "listener on "+net.JoinHostPort(host, strconv.Itoa(port)), func() error {
		_, err := n.Try(3*time.Second, "nc", "-z", host, strconv.Itoa(port))
		return err
	})
}
