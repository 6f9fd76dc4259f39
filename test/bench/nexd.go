package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// nexdOptions say which nexd system.
type nexdOptions struct {
	path string // direct, udp or tls: the latter two through the service's relay
	mtu  int    // 0: what it finds the path to carry
	old  bool
	ops  bool // with metrics
}

func nexdOf(o nexdOptions) func(*env, *system) error {
	return func(e *env, s *system) error { return startNexd(e, s, o) }
}

// service is a control service of a system.
type service struct {
	key     string // a registration key
	address string // of the API
	dir     string // what else belongs to it has a directory below
}

// serve starts the control service at the client, so that a cable is between it
// and the server.
func (s *system) serve(nexd string) (*service, error) {
	dir, err := os.MkdirTemp(s.env.dir, "nexd-")
	if err != nil {
		return nil, err
	}
	ip := "127.0.0.1"
	if s.at != s.far {
		ip = "192.0.2.2"
	}
	v := &service{address: net.JoinHostPort(ip, s.port()), dir: dir}
	state := filepath.Join(dir, "service")
	if _, err := s.run(s.at, false, nil, nexd, "serve", "--log-level", "warn", "--state-dir", state,
		"--listen", v.address, "--stun-listen", net.JoinHostPort(ip, s.port()), "--public-url", "https://"+v.address); err != nil {
		return nil, err
	}
	err = s.until(20*time.Second, func() error {
		out, err := s.at.command(s.env.nexctl, "--admin-file", filepath.Join(state, "admin.json"), "reg-key", "create").Output()
		v.key = strings.TrimSpace(string(out))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a registration key: %w", err)
	}
	return v, nil
}

// proxyArgs are those every `nexd proxy` has.
func (v *service) proxyArgs(name string) []string {
	return []string{
		"proxy", "--log-level", "warn", "--hostname", name,
		"--state-dir", filepath.Join(v.dir, name), "--unix-socket", v.socket(name),
	}
}

func (v *service) socket(name string) string { return filepath.Join(v.dir, name+".sock") }

// proxy starts a `nexd proxy` that counts.
func (s *system) proxy(v *service, nexd string, at *place, name string, args ...string) (*proc, error) {
	return s.run(at, true, []string{"NEXD_REG_KEY=" + v.key}, nexd, append(v.proxyArgs(name), args...)...)
}

// maxConns is more than any test opens.
const maxConns = ",max-conns=40000"

// startNexd starts the service and two proxies.
func startNexd(e *env, s *system, o nexdOptions) error {
	nexd := e.nexd
	if o.old {
		nexd = e.old
	}
	v, err := s.serve(nexd)
	if err != nil {
		return err
	}
	ports := [2]string{s.port(), s.port()}
	if err := s.block(o.path, ports); err != nil {
		return err
	}
	local := s.port()
	s.addr = "127.0.0.1:" + local
	target := s.target("127.0.0.1")
	args := [2][]string{
		{"--listen-port", ports[0], "--ingress", "tcp:80:" + target + maxConns, "--ingress", "udp:80:" + target},
		{"--listen-port", ports[1], "--egress", "tcp:127.0.0.1:" + local + ":ingress:80" + maxConns, "--egress", "udp:127.0.0.1:" + local + ":ingress:80"},
	}
	if o.mtu > 0 {
		for i := range args {
			args[i] = append(args[i], "--mtu", strconv.Itoa(o.mtu))
		}
	}
	if o.ops {
		for i := range args {
			s.ops[i] = "127.0.0.1:" + s.port()
			args[i] = append(args[i], "--ops-listen", s.ops[i])
		}
	}
	if _, err := s.proxy(v, nexd, s.far, "ingress", args[0]...); err != nil {
		return err
	}
	if _, err := s.proxy(v, nexd, s.at, "egress", args[1]...); err != nil {
		return err
	}
	s.path = func() error { return s.takes(o, v.socket("egress"), "ingress") }
	return nil
}

// block drops the packets that a system by relay must not have.
func (s *system) block(path string, ports [2]string) error {
	var drop string
	switch path {
	case "udp":
		drop = fmt.Sprintf("udp sport { %[1]s, %[2]s } udp dport { %[1]s, %[2]s } drop", ports[0], ports[1])
	case "tls":
		drop = fmt.Sprintf("udp sport { %[1]s, %[2]s } drop; udp dport { %[1]s, %[2]s } drop", ports[0], ports[1])
	default:
		return nil
	}
	return s.at.do("nft", "add table inet bench; add chain inet bench in { type filter hook input priority 0; }; "+
		"add rule inet bench in "+strings.ReplaceAll(drop, "; ", "; add rule inet bench in "))
}

// takes asks a daemon whether its packets to a peer take the way they are to.
func (s *system) takes(o nexdOptions, socket, peer string) error {
	out, err := s.at.command(s.env.nexctl, "--unix-socket", socket, "nexd", "status", "--output", "json").Output()
	if err != nil {
		return fmt.Errorf("ask nexd for its path: %w", err)
	}
	path, size, err := parsePath(out, peer)
	switch {
	case err != nil:
		return err
	case path != o.path:
		return fmt.Errorf("its packets go by %s, not by %s", path, o.path)
	case o.mtu == 0 && size < raised:
		return fmt.Errorf("its packets are of %d bytes, and could be of %d", size, raised)
	}
	return nil
}

// raised is the MTU that nexd finds on a loopback.
const raised = 8920

// parsePath reads the path to a peer from a status document: direct, udp or tls
// for a relay by these, or none; and the MTU to it, 0 when nothing says.
func parsePath(status []byte, peer string) (path string, size int, err error) {
	var st struct {
		Peers []struct {
			Name string `json:"name"`
			MTU  int    `json:"mtu"`
			Path struct{ Kind, Transport string }
		} `json:"peers"`
	}
	if err := json.Unmarshal(status, &st); err != nil {
		return "", 0, fmt.Errorf("read the status: %w", err)
	}
	for _, p := range st.Peers {
		if p.Name == peer && p.Path.Kind == "relay" {
			return p.Path.Transport, p.MTU, nil
		}
		if p.Name == peer {
			return p.Path.Kind, p.MTU, nil
		}
	}
	return "", 0, fmt.Errorf("it knows no %s", peer)
}
