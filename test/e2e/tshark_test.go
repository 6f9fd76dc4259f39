//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nexd/test/netns"
)

// recording is what tcpdump writes of an interface.
type recording struct {
	*netns.Proc
	file string
	link int // bytes of the link's header
}

// record begins to write down what of a filter passes an interface.
func record(t *testing.T, host *netns.Host, dev string, link int, filter string) *recording {
	t.Helper()
	r := &recording{file: filepath.Join(t.TempDir(), dev+".pcap"), link: link}
	r.Proc = host.Start("tcpdump "+dev, host.Command("tcpdump", "-n", "-Z", "root", "-B", "16384", "-i", dev, "-w", r.file, filter))
	netns.Until(t, 20*time.Second, "tcpdump", func() error {
		if !strings.Contains(r.Log(), "listening on") {
			return errors.New("it does not listen yet: " + r.Log())
		}
		return nil
	})
	return r
}

// end awaits what the kernel still holds for the recording and closes the file.
func (r *recording) end(t *testing.T) {
	t.Helper()
	netns.Until(t, 20*time.Second, r.Name+" has written all packets", func() error {
		r.Signal(syscall.SIGUSR1) // tcpdump counts
		counts := tcpdumpCounts.FindAllStringSubmatch(r.Log(), -1)
		if len(counts) == 0 {
			return errors.New("it has not counted yet")
		}
		if last := counts[len(counts)-1]; last[1] != last[2] {
			return errors.New(last[0])
		}
		return nil
	})
	r.Signal(syscall.SIGINT)
	if code := r.Wait(20 * time.Second); code != 0 {
		t.Fatalf("%s ended with %d: %s", r.Name, code, r.Log())
	}
}

var tcpdumpCounts = regexp.MustCompile(`(\d+) packets? captured, (\d+) packets? received by filter`)

// packets is what a file holds, by tshark's judgement.
type packets struct {
	count  map[string]int // by kind: tcp4, udp6, fragment4, …
	faults []fault
	sizes  map[int]int // packets by the length of their IP packet
}

// fault is what is wrong with a packet of a file; they count from 1.
type fault struct {
	packet int
	what   string
}

func (f fault) String() string { return fmt.Sprintf("packet %d: %s", f.packet, f.what) }

// fields of a packet, as tshark is asked for them.
var fields = []string{
	"frame.number", "frame.len", "frame.cap_len", "frame.protocols", "ip.len", "ipv6.plen",
	"ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status",
	"_ws.expert.severity", "_ws.expert.message",
	"ip.flags.mf", "ip.frag_offset", "ipv6.fraghdr.nxt",
}

const (
	checksumGood = "1"
	// severityError is what tshark calls a bad checksum, a length that cannot be or
	// a packet it cannot read.
	severityError = "8388608"
)

// examine has tshark verify a file's packets. What is in them is wireGuard, or
// data that it shall not guess at.
func examine(t *testing.T, file string, link int, wireGuard bool) packets {
	t.Helper()
	args := []string{
		"-n", "-r", file, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,",
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
		"-o", "tcp.analyze_sequence_numbers:FALSE",
	}
	if wireGuard {
		args = append(args, "-d", "udp.port=="+strconv.Itoa(stockPort)+",wg")
	} else {
		args = append(args, "-d", "tcp.port==1-65535,data", "-d", "udp.port==1-65535,data")
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	p := packets{count: map[string]int{}, sizes: map[int]int{}}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "" {
			continue
		}
		values := strings.Split(lines.Text(), "\t")
		if len(values) != len(fields) {
			t.Fatalf("tshark wrote %q", lines.Text())
		}
		v := make(map[string]string, len(fields))
		for i, f := range fields {
			v[f] = values[i]
		}
		p.add(v, link, wireGuard)
	}
	return p
}

// add judges one packet.
func (p *packets) add(v map[string]string, link int, wireGuard bool) {
	var faults []string
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }

	// Of an ICMP error, the first value is its own; the others are of the packet in it.
	first := func(field string) string {
		s, _, _ := strings.Cut(v[field], ",")
		return s
	}
	version, length := "4", number(first("ip.len"))
	if v["ipv6.plen"] != "" {
		version, length = "6", number(first("ipv6.plen"))+40
	}
	frame := number(v["frame.len"])
	if length != frame-link {
		bad("its IP header says %d bytes, it has %d", length, frame-link)
	}
	if number(v["frame.cap_len"]) != frame {
		bad("recorded in part")
	}
	p.sizes[length]++

	if version == "4" && first("ip.checksum.status") != checksumGood {
		bad("checksum of the IP header: %s", v["ip.checksum.status"])
	}
	if slices.Contains(strings.Split(v["_ws.expert.severity"], ","), severityError) {
		bad("%s", v["_ws.expert.message"])
	}
	layers := strings.Split(v["frame.protocols"], ":")
	for _, l := range layers {
		if l == "_ws.malformed" || l == "_ws.short" {
			bad("%s", l)
		}
	}

	fragment := number(first("ip.frag_offset")) > 0 || first("ip.flags.mf") == "1" || v["ipv6.fraghdr.nxt"] != ""
	if fragment {
		p.count["fragment"+version]++
	}
	kind := ""
	for _, l := range layers {
		if l == "tcp" || l == "udp" || l == "icmp" || l == "icmpv6" {
			kind = l
			break
		}
	}
	switch {
	case kind != "": // the last fragment is the whole to tshark
		p.count[strings.TrimSuffix(kind, "v6")+version]++
		if fragment {
			p.count["whole"+version]++
		}
		if first(kind+".checksum.status") != checksumGood {
			bad("checksum of %s: %q", kind, v[kind+".checksum.status"])
		}
	case !fragment:
		bad("nothing of ours")
	}
	if wireGuard && layers[len(layers)-1] != "wg" {
		bad("not WireGuard")
	}
	if len(faults) > 0 {
		p.faults = append(p.faults, fault{number(v["frame.number"]), fmt.Sprintf("%s of %d bytes: %s", v["frame.protocols"], frame, strings.Join(faults, "; "))})
	}
}

// number reads a decimal or, as tshark writes some, a hexadecimal one; -1 for none.
func number(s string) int {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// judge ends the recording and fails the test for each packet with a fault, and
// unless there are so many of each kind. That faults are found is tried with damages.
func (r *recording) judge(t *testing.T, wireGuard bool, atLeast map[string]int, damages ...damage) packets {
	t.Helper()
	r.end(t)
	sound := r.damage(t, damages)
	p := examine(t, r.file, r.link, wireGuard)
	shown := 0
	for _, f := range p.faults {
		if f.packet > sound {
			damages = damages[1:]
		} else if shown++; shown <= 10 {
			t.Errorf("%s: %s", r.Name, f)
		}
	}
	if shown > 10 {
		t.Errorf("%s: and %d more", r.Name, shown-10)
	}
	if len(damages) > 0 {
		t.Errorf("%s: %d packets were damaged on purpose and found to be right", r.Name, len(damages))
	}
	for kind, least := range atLeast {
		if p.count[kind] < least {
			t.Errorf("%s: %d packets of %s were seen, expected %d", r.Name, p.count[kind], kind, least)
		}
	}
	t.Logf("%s: %v", r.Name, p.count)
	return p
}

// record begins to write down what ours emits: the packets that come out of the
// stock peer's device, and the datagrams that bring them.
func (a *against) record(t *testing.T) (inner, outer *recording) {
	t.Helper()
	inner = record(t, a.theirs, a.stock.dev, 0, fmt.Sprintf("src host %s or src host %s", ourMesh[0], ourMesh[1]))
	outer = record(t, a.theirs, "eth0", 14, fmt.Sprintf("src host %s and udp", a.here.Addr()))
	return inner, outer
}

// judge ends the recordings: every packet in them must be right.
func (a *against) judge(t *testing.T, inner, outer *recording, mtu int) {
	t.Helper()
	version := byte(4)
	if a.here.Addr().Is6() {
		version = 6
	}
	udp := fmt.Sprintf("udp%d", version)
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		outer.judge(t, true, map[string]int{udp: 5000}, badPayload(version, 17), badUDPLength(version), badLength(version))
	})
	p := inner.judge(t, false, map[string]int{
		"tcp4": 1000, "tcp6": 1000, "udp4": 20, "udp6": 20, "icmp4": 3, "icmp6": 3,
		"fragment4": 50, "fragment6": 50, "whole4": 5, "whole6": 5,
	}, badHeader, badPayload(4, 6), badPayload(6, 6), badPayload(4, 17), badPayload(6, 17),
		badUDPLength(4), badUDPLength(6), badLength(4), badLength(6))
	for size := range p.sizes {
		if size > mtu {
			t.Errorf("inside: a packet of %d bytes, more than the MTU of %d", size, mtu)
		}
	}
	// TCP keeps 40 bytes free for options and uses 12 of them.
	if p.sizes[mtu-28] < 1000 || p.sizes[mtu] < 5 {
		t.Errorf("inside: %d packets of whole segments and %d as long as the MTU: nothing large was cut", p.sizes[mtu-28], p.sizes[mtu])
	}
}
