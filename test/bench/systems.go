package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// system is one way from a local port to the server: processes, of which some count.
type system struct {
	name  string
	addr  string // where the load connects to
	procs []*exec.Cmd
	// counted are the pids whose CPU time is the system's cost.
	counted []int
}

func (s *system) start(cmd *exec.Cmd, counted bool) error {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	s.procs = append(s.procs, cmd)
	if counted {
		s.counted = append(s.counted, cmd.Process.Pid)
	}
	return nil
}

func (s *system) stop() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		p := s.procs[i]
		p.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { p.Process.Kill() })
		p.Wait()
		kill.Stop()
	}
}

// cpu returns the CPU seconds the counted processes have used.
func (s *system) cpu() (float64, error) {
	var ticks uint64
	for _, pid := range s.counted {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// Fields after the name in parentheses; utime and stime are the 14th and 15th of all.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return float64(ticks) / 100, nil // USER_HZ is 100 on every Linux
}

// startSystems starts all of them; what was started is returned with an error, too.
func startSystems(ctx context.Context, dir, nexd, nexctl, target string) ([]*system, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var list []*system
	for _, start := range []func() (*system, error){
		func() (*system, error) { return startPlain(self, target) },
		func() (*system, error) { return startStock(self, target) },
		func() (*system, error) { return startNexd(dir, nexd, nexctl, target) },
	} {
		s, err := start()
		if s != nil {
			list = append(list, s)
		}
		if err == nil {
			err = awaitEcho(ctx, s.addr)
		}
		if err != nil {
			return list, fmt.Errorf("start %s: %w", s.name, err)
		}
	}
	return list, nil
}

// awaitEcho waits until a byte comes back through the system.
func awaitEcho(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := shortConnection(addr)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freePort(network string) (string, error) {
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer c.Close()
		return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

func ports(networks ...string) ([]string, error) {
	var out []string
	for _, n := range networks {
		p, err := freePort(n)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// startPlain chains two TCP proxies that only copy.
func startPlain(self, target string) (*system, error) {
	s := &system{name: "plain proxies"}
	p, err := ports("tcp", "tcp")
	if err != nil {
		return s, err
	}
	s.addr = "127.0.0.1:" + p[0]
	return s, errors.Join(
		s.start(exec.Command(self, "child", "plain", "127.0.0.1:"+p[1], target), true),
		s.start(exec.Command(self, "child", "plain", s.addr, "127.0.0.1:"+p[1]), true),
	)
}

// startStock joins two processes by wireguard-go's own netstack.
func startStock(self, target string) (*system, error) {
	s := &system{name: "stock netstack"}
	p, err := ports("tcp", "udp", "udp")
	if err != nil {
		return s, err
	}
	s.addr = "127.0.0.1:" + p[0]
	return s, errors.Join(
		s.start(exec.Command(self, "child", "stock-ingress", p[1], target), true),
		s.start(exec.Command(self, "child", "stock-egress", p[2], "127.0.0.1:"+p[1], s.addr), true),
	)
}

// startNexd starts the service and two proxies.
func startNexd(dir, nexd, nexctl, target string) (*system, error) {
	s := &system{name: "nexd"}
	p, err := ports("tcp", "tcp", "udp")
	if err != nil {
		return s, err
	}
	s.addr = "127.0.0.1:" + p[0]
	state := func(name string) string { return filepath.Join(dir, name) }
	quiet := []string{"--log-level", "error"}
	if err := s.start(exec.Command(nexd, append([]string{
		"serve", "--state-dir", state("service"), "--listen", "127.0.0.1:" + p[1],
		"--stun-listen", "127.0.0.1:" + p[2], "--public-url", "https://127.0.0.1:" + p[1],
	}, quiet...)...), false); err != nil {
		return s, err
	}
	admin := filepath.Join(state("service"), "admin.json")
	key, err := retry(20*time.Second, func() (string, error) {
		out, err := exec.Command(nexctl, "--admin-file", admin, "reg-key", "create").Output()
		return strings.TrimSpace(string(out)), err
	})
	if err != nil {
		return s, fmt.Errorf("make a registration key: %w", err)
	}
	proxy := func(name string, rule ...string) error {
		cmd := exec.Command(nexd, append(append([]string{
			"proxy", "--state-dir", state(name), "--hostname", name,
			"--unix-socket", filepath.Join(state(name), "nexd.sock"),
		}, quiet...), rule...)...)
		cmd.Env = append(os.Environ(), "NEXD_REG_KEY="+key)
		return s.start(cmd, true)
	}
	return s, errors.Join(
		proxy("ingress", "--ingress", "tcp:80:"+target),
		proxy("egress", "--egress", "tcp:"+p[0]+":ingress:80"),
	)
}

func retry[T any](limit time.Duration, f func() (T, error)) (T, error) {
	end := time.Now().Add(limit)
	for {
		v, err := f()
		if err == nil || time.Now().After(end) {
			return v, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
