//go:build linux

package lab

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"nexd/test/cluster"
	"nexd/test/need"
	"nexd/test/netns"
)

// The real programs run on the hosts of a lab: two proxies at home behind NATs
// find the direct path between them and carry a connection over it.
func TestPrograms(t *testing.T) {
	t.Parallel()
	need.Programs(t, "curl")
	l := New(t)
	c := cluster.Over(t)
	adopt := func(s *Site) *cluster.Node {
		n := s.Node(1)
		return c.Adopt(n.Host, n.V4, n.V6)
	}
	far, near := l.Site(PortRestricted, Options{}), l.Site(FullCone, Options{})
	svc := c.ServeOn(adopt(l.Site(Public, Options{})))
	key := svc.RegKey()
	server := c.Proxy(adopt(far), "--reg-key", key, "--ingress", "tcp:7000:127.0.0.1:7000").Ready()
	client := c.Proxy(adopt(near), "--reg-key", key, "--egress", "tcp:7000:"+server.Node.Name+":7000").Ready()

	ln, err := netns.Inside(server.Node.Host, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:7000") })
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn, err := netns.Inside(client.Node.Host, func() (net.Conn, error) { return net.DialTimeout("tcp", "127.0.0.1:7000", 10*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "through two NATs\n")
	if got, err := bufio.NewReader(conn).ReadString('\n'); err != nil || got != "through two NATs\n" {
		t.Errorf("got %q, %v", got, err)
	}
	client.Direct(server.Node.Name)
	st, err := client.Status()
	if err != nil || len(st.Peers) == 0 {
		t.Fatalf("%d peers, %v", len(st.Peers), err)
	}
	at, err := net.ResolveUDPAddr("udp", st.Peers[0].Path.Endpoint)
	if err != nil || !at.IP.Equal(far.Outside().AsSlice()) {
		t.Errorf("the path is %+v, want the NAT's address %s", st.Peers[0].Path, far.Outside())
	}
}
