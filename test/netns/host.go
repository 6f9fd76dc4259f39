//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is one namespace of a [Set].
type Host struct {
	Name string // in the set
	NS   string // of the namespace, for ip(8)

	t T
}

// Command returns a command in the namespace, as root.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.NS, name}, args...)...)
}

// CommandAs returns a command in the namespace as an unprivileged user without
// capabilities, groups, HOME or any other environment.
func (h *Host) CommandAs(uid int, name string, args ...string) *exec.Cmd {
	id := strconv.Itoa(uid)
	full := append([]string{"netns", "exec", h.NS, "chroot", "--userspec=" + id + ":" + id, "--groups=", "/", name}, args...)
	cmd := exec.Command("ip", full...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// Run runs a program in the namespace as root and returns what it printed on
// both streams; the test fails when the program does.
func (h *Host) Run(name string, args ...string) string {
	h.t.Helper()
	return h.RunFor(60*time.Second, name, args...)
}

// RunFor is Run with a bound on the time.
func (h *Host) RunFor(limit time.Duration, name string, args ...string) string {
	h.t.Helper()
	out, err := h.Try(limit, name, args...)
	if err != nil {
		h.t.Fatalf("%s: %s %s: %v\n%s", h.Name, name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try runs a program in the namespace as root and returns its output and error.
func (h *Host) Try(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.NS, name}, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %s: %w", limit, err)
	}
	return string(out), err
}

// IP runs commands of ip(8) in the namespace, one a line as "addr add …", in
// one process. The first that fails ends the test.
func (h *Host) IP(lines ...string) {
	h.t.Helper()
	if out, err := ipBatch(strings.Join(lines, "\n")+"\n", "-n", h.NS); err != nil {
		h.t.Fatalf("%s: ip: %v\n%s%s", h.Name, err, out, strings.Join(lines, "\n"))
	}
}

// TryIP is IP that goes on after errors and keeps them to itself: for what may
// be there or gone already.
func (h *Host) TryIP(lines ...string) {
	ipBatch(strings.Join(lines, "\n")+"\n", "-force", "-n", h.NS)
}

// carrierPatience is much more than the second the kernel may take.
const carrierPatience = 20 * time.Second

// Carrier waits until links work that are up at both ends. The kernel may find
// out a second later that they have a carrier, and drops what is sent before.
func (h *Host) Carrier(links ...string) {
	h.t.Helper()
	for _, link := range links {
		Until(h.t, carrierPatience, h.Name+": carrier of "+link, func() error {
			out, err := ipBatch("link show dev "+link+"\n", "-br", "-n", h.NS)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			if words := strings.Fields(string(out)); len(words) < 2 || words[1] != "UP" {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
}

// NFT loads nftables rules into the namespace, all or nothing.
func (h *Host) NFT(rules string) {
	h.t.Helper()
	if err := h.TryNFT(rules); err != nil {
		h.t.Fatalf("%s: %v\n%s", h.Name, err, rules)
	}
}

// TryNFT is NFT that returns the error.
func (h *Host) TryNFT(rules string) error {
	_, err := Inside(h, func() (struct{}, error) {
		cmd := exec.Command("nft", "-f", "-") // forked by a thread that is inside
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("nft: %w: %s", err, out)
		}
		return struct{}{}, err
	})
	return err
}

// Sysctl writes pairs of a path below /proc/sys and its value.
func (h *Host) Sysctl(pairs ...string) {
	h.t.Helper()
	_, err := Inside(h, func() (struct{}, error) { return struct{}{}, sysctl(pairs...) })
	if err != nil {
		h.t.Fatalf("%s: %v", h.Name, err)
	}
}

func sysctl(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := os.WriteFile(filepath.Join("/proc/sys", pairs[i]), []byte(pairs[i+1]), 0); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes a new namespace usable: its loopback is up, and an address can
// be used at once, without duplicate address detection.
func (h *Host) prepare() error {
	_, err := Inside(h, func() (struct{}, error) {
		err := sysctl("net/ipv6/conf/all/accept_dad", "0", "net/ipv6/conf/default/accept_dad", "0")
		return struct{}{}, errors.Join(err, loopbackUp())
	})
	return err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
