package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// place is where processes run: a network namespace that lives as long as one
// of them, or the host's own.
type place struct {
	holder int // a process in the namespace; 0: the host's
}

// mayIsolate says why no namespaces can be made, or nil.
func mayIsolate() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root, for network namespaces")
	}
	for _, program := range []string{"nsenter", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("it needs %s", program)
		}
	}
	return nil
}

// command prepares a program to run there.
func (p *place) command(name string, args ...string) *exec.Cmd {
	if p.holder == 0 {
		return exec.Command(name, args...)
	}
	return exec.Command("nsenter", append([]string{"--net=" + p.path(), "--", name}, args...)...)
}

func (p *place) path() string { return fmt.Sprintf("/proc/%d/ns/net", p.holder) }

// do runs a program there to its end.
func (p *place) do(name string, args ...string) error {
	out, err := p.command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return err
}

// ip runs commands of ip(8), one a line.
func (p *place) ip(lines ...string) error {
	for _, l := range lines {
		if err := p.do("ip", strings.Fields(l)...); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes a new namespace usable. Ports of connections that have ended
// may be used again soon, so that a run of short ones does not end for want of
// ports. What the kernel's TCP does is not this machine's choice: CUBIC, as on
// most, or Reno where a namespace may not choose that.
func (p *place) prepare() error {
	return errors.Join(
		p.ip("link set lo up"),
		p.do("sh", "-c", `cd /proc/sys/net/ipv4 && echo 1 >tcp_tw_reuse && echo '10000 65000' >ip_local_port_range &&
			{ echo cubic >tcp_congestion_control || echo reno >tcp_congestion_control; }`),
	)
}

// join connects two places by a veth pair, eth0 in both.
func join(a, b *place) error {
	return errors.Join(
		a.ip("link add eth0 type veth peer name eth0 netns "+strconv.Itoa(b.holder)),
		address(a, "192.0.2.2"), address(b, "192.0.2.1"),
	)
}

func address(p *place, addr string) error {
	return p.ip("addr add "+addr+"/24 dev eth0", "link set eth0 up")
}
