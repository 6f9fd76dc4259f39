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

// bufferKiB is what the kernel keeps for tcpdump while that does not run: more than
// all that a test sends, so that nothing is missing in a recording.
const bufferKiB = "65536"

// record begins to write down what of a filter passes an interface.
func record(t *testing.T, host *netns.Host, dev string, link int, filter string) *recording {
	t.Helper()
	r := &recording{file: filepath.Join(t.TempDir(), dev+".pcap"), link: link}
	r.Proc = host.Start("tcpdump "+dev, host.Command("tcpdump", "-n", "-Z", "root", "-B", bufferKiB, "-i", dev, "-w", r.file, filter))
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
func examine(file string, link int, wireGuard bool) (packets, error) {
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
		return packets{}, fmt.Errorf("tshark: %w\n%s", err, stderr.String())
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
			return packets{}, fmt.Errorf("tshark wrote %q", lines.Text())
		}
		v := make(map[string]string, len(fields))
		for i, f := range fields {
			v[f] = values[i]
		}
		p.add(v, link, wireGuard)
	}
	return p, lines.Err()
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

// check is what is asked of a recording.
type check struct {
	*recording
	wireGuard bool
	atLeast   map[string]int // packets of each kind
	damages   []damage       // that have to be found
}

// judge ends recordings and fails the test for each packet with a fault, for each
// damaged one without, and unless there are so many of each kind.
func judge(t *testing.T, checks ...check) []packets {
	t.Helper()
	results, errs, sound := make([]packets, len(checks)), make([]error, len(checks)), make([]int, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		c.end(t)
		sound[i] = c.damage(t, c.damages)
	}
	for i, c := range checks {
		all.Go(func() { results[i], errs[i] = examine(c.file, c.link, c.wireGuard) })
	}
	all.Wait()
	for i, c := range checks {
		if errs[i] != nil {
			t.Fatalf("%s: %v", c.Name, errs[i])
		}
		c.compare(t, results[i], sound[i])
	}
	return results
}

// compare fails the test for what judge says; the first packets are those recorded.
func (c check) compare(t *testing.T, p packets, sound int) {
	t.Helper()
	wrong, found := 0, 0
	for _, f := range p.faults {
		if f.packet > sound {
			found++
		} else if wrong++; wrong <= 10 {
			t.Errorf("%s: %s", c.Name, f)
		}
	}
	if wrong > 10 {
		t.Errorf("%s: and %d more", c.Name, wrong-10)
	}
	if found != len(c.damages) {
		t.Errorf("%s: %d packets were damaged on purpose, %d of them found", c.Name, len(c.damages), found)
	}
	for kind, least := range c.atLeast {
		if p.count[kind] < least {
			t.Errorf("%s: %d packets of %s were seen, expected %d", c.Name, p.count[kind], kind, least)
		}
	}
	t.Logf("%s: %v", c.Name, p.count)
}
