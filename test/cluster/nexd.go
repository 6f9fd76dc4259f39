//go:build linux

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nexd/localapi"
)

// Service is `nexd serve` in a namespace of its own.
type Service struct {
	*Proc
	Node *Node
	Dir  string // its state directory
	URL  string

	c    *Cluster
	port int // of HTTPS
	args []string
}

// Serve starts the control service on a new host and waits until it answers.
func (c *Cluster) Serve(args ...string) *Service {
	c.t.Helper()
	return c.ServeOn(c.Node("svc"), args...)
}

// ServeOn is Serve on a host that is there already.
func (c *Cluster) ServeOn(n *Node, args ...string) *Service {
	c.t.Helper()
	return c.ServeAt(n, 8443, args...)
}

// ServeAt is ServeOn with HTTPS on another port; on 443 it is reached from
// behind firewalls that let nothing else out.
func (c *Cluster) ServeAt(n *Node, port int, args ...string) *Service {
	c.t.Helper()
	if port < 1024 {
		n.Sysctl("net/ipv4/ip_unprivileged_port_start", strconv.Itoa(port))
	}
	s := &Service{
		Node: n, c: c, Dir: c.Dir("service", n.UID), port: port,
		URL: "https://" + net.JoinHostPort(n.V4.String(), strconv.Itoa(port)),
	}
	s.args = append([]string{"serve", "--state-dir", s.Dir, "--listen", ":" + strconv.Itoa(port), "--public-url", s.URL}, args...)
	s.Start()
	return s
}

// Start starts the service (again) and waits until it is ready.
func (s *Service) Start() {
	s.c.t.Helper()
	s.Proc = s.Node.Start("nexd serve", s.Node.CommandAs(s.Node.UID, filepath.Join(s.c.bin, "nexd"), s.args...))
	Until(s.c.t, 20*time.Second, "nexd serve ready", func() error {
		if !s.Running() {
			return errors.New("it ended")
		}
		out, err := s.Node.Try(5*time.Second, "curl", "-sSkf", "https://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))+"/readyz")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// Ctl runs nexctl against the service as its administrator and returns stdout.
func (s *Service) Ctl(args ...string) string {
	s.c.t.Helper()
	cmd := s.Node.Command(filepath.Join(s.c.bin, "nexctl"), append([]string{"--admin-file", filepath.Join(s.Dir, "admin.json")}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		s.c.t.Fatalf("nexctl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// RegKey makes a registration key.
func (s *Service) RegKey(args ...string) string {
	s.c.t.Helper()
	return strings.TrimSpace(s.Ctl(append([]string{"reg-key", "create"}, args...)...))
}

// Proxy is `nexd proxy` as an unprivileged user.
type Proxy struct {
	*Proc
	Node *Node
	Dir  string // its state directory

	c      *Cluster
	device string
	args   []string
}

// Proxy starts `nexd proxy` on a node, named after it, with further arguments.
func (c *Cluster) Proxy(n *Node, args ...string) *Proxy {
	c.t.Helper()
	return c.ProxyIn(n, n.Name, args...)
}

// ProxyIn is Proxy with a device name of its own: several on one host.
func (c *Cluster) ProxyIn(n *Node, device string, args ...string) *Proxy {
	c.t.Helper()
	p := &Proxy{Node: n, c: c, Dir: c.Dir("node-"+device, n.UID), device: device}
	p.args = append([]string{"proxy", "--state-dir", p.Dir, "--hostname", device, "--log-level", "debug"}, args...)
	p.Start()
	return p
}

// Start starts the proxy (again) with the arguments it had.
func (p *Proxy) Start() {
	p.c.t.Helper()
	p.Proc = p.Node.Start("nexd proxy "+p.device, p.Node.CommandAs(p.Node.UID, filepath.Join(p.c.bin, "nexd"), p.args...))
}

// Socket is the path of the daemon's socket.
func (p *Proxy) Socket() string { return filepath.Join(p.Dir, "nexd.sock") }

// ctl builds a nexctl command against the proxy's daemon.
func (p *Proxy) ctl(args ...string) *exec.Cmd {
	return p.Node.Command(filepath.Join(p.c.bin, "nexctl"), append([]string{"--unix-socket", p.Socket()}, args...)...)
}

// Ctl runs nexctl against the proxy's daemon and returns stdout.
func (p *Proxy) Ctl(args ...string) string {
	p.c.t.Helper()
	out, err := p.TryCtl(args...)
	if err != nil {
		p.c.t.Fatalf("nexctl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TryCtl is Ctl that returns the error, with what nexctl said.
func (p *Proxy) TryCtl(args ...string) (string, error) {
	cmd := p.ctl(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, stderr.String())
	}
	return stdout.String(), nil
}

// Status returns the daemon's status document.
func (p *Proxy) Status() (localapi.Status, error) {
	var st localapi.Status
	out, err := p.TryCtl("nexd", "status", "--output", "json")
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal([]byte(out), &st)
}

// Ready waits until the daemon says that it is ready.
func (p *Proxy) Ready() *Proxy {
	p.c.t.Helper()
	Until(p.c.t, 20*time.Second, p.Name+" ready", func() error {
		if !p.Running() {
			return errors.New("it ended")
		}
		st, err := p.Status()
		if err != nil {
			return err
		}
		if !st.Ready {
			return fmt.Errorf("not ready: %v", st.Reasons)
		}
		return nil
	})
	return p
}

// Direct waits until the peer is reached directly.
func (p *Proxy) Direct(peer string) *Proxy {
	p.c.t.Helper()
	if out, err := p.TryCtl("nexd", "wait", "--for", "direct:"+peer, "--timeout", "20s"); err != nil {
		p.c.t.Fatalf("%s: wait for direct:%s: %v\n%s", p.Name, peer, err, out)
	}
	return p
}

// V4 is the device's mesh IPv4 address.
func (p *Proxy) V4() string {
	p.c.t.Helper()
	return strings.TrimSpace(p.Ctl("nexd", "get", "tunnelip"))
}

// V6 is the device's mesh IPv6 address.
func (p *Proxy) V6() string {
	p.c.t.Helper()
	return strings.TrimSpace(p.Ctl("nexd", "get", "tunnelip", "--ipv6"))
}
