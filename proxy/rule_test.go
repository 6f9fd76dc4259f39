package proxy

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nexd/rules"
)

type nobody struct{}

func (nobody) Addresses() []netip.Addr                 { return nil }
func (nobody) Resolve(string) []netip.Addr             { return nil }
func (nobody) Who(netip.Addr) (string, []string, bool) { return "", nil, false }

func oneRule(t testing.TB, d rules.Direction, text string) *rule {
	t.Helper()
	spec, err := rules.Parse(d, text)
	if err != nil {
		t.Fatal(err)
	}
	return newRule(New(Config{Directory: nobody{}}), spec.First())
}

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		direction    rules.Direction
		text         string
		max, perPeer int
	}{
		{rules.Ingress, "tcp:80:127.0.0.1:80", 10_000, 5000},
		{rules.Ingress, "tcp:80:127.0.0.1:80,max-conns=10", 10, 10},
		{rules.Ingress, "tcp:80:127.0.0.1:80,max-conns=20000", 20_000, 10_000},
		{rules.Egress, "tcp:80:db:80", 10_000, 10_000},
		{rules.Ingress, "udp:53:127.0.0.1:53", 4096, 2048},
	} {
		r := oneRule(t, c.direction, c.text)
		if r.max != c.max || r.perPeer != c.perPeer {
			t.Errorf("%s: %d, %d of one peer; want %d, %d", c.text, r.max, r.perPeer, c.max, c.perPeer)
		}
	}
}

func TestOnePeerCannotTakeEveryPlace(t *testing.T) {
	r := oneRule(t, rules.Ingress, "tcp:80:127.0.0.1:80")
	greedy, other := netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.0.3")
	for range r.perPeer {
		if why := r.acquire(greedy); why != "" {
			t.Fatal(why)
		}
	}
	if why := r.acquire(greedy); why != refusedPeer {
		t.Errorf("refusal %q, want %q", why, refusedPeer)
	}
	for range r.max - r.perPeer {
		if why := r.acquire(other); why != "" {
			t.Fatal(why)
		}
	}
	if why := r.acquire(netip.MustParseAddr("100.64.0.4")); why != refusedMax {
		t.Errorf("refusal %q, want %q", why, refusedMax)
	}
	r.release(greedy)
	if why := r.acquire(greedy); why != "" {
		t.Errorf("after a release: %q", why)
	}
}

// Every usable rule is a candidate exactly once, working destinations come
// before those put off, and each in turn is first.
func TestCandidates(t *testing.T) {
	spec, err := rules.Parse(rules.Ingress, "tcp:80:127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{Directory: nobody{}})
	rapid.Check(t, func(t *rapid.T) {
		g := newGroup(e, spec.First().Key())
		count := rapid.IntRange(1, 8).Draw(t, "rules")
		all := make([]*rule, count)
		usable, working := 0, 0
		for i := range all {
			all[i] = newRule(e, spec.First())
			all[i].reachable = rapid.Bool().Draw(t, "reachable")
			if all[i].reachable {
				usable++
			}
			if rapid.Bool().Draw(t, "put off") {
				all[i].retryAt = time.Now().Add(time.Duration(rapid.IntRange(60, 600).Draw(t, "wait")) * time.Second)
			} else if all[i].reachable {
				working++
			}
		}
		g.rules.Store(&all)
		firsts := map[*rule]int{}
		for range count {
			order := g.candidates(func(*rule) bool { return true })
			if len(order) != usable {
				t.Fatalf("%d candidates of %d", len(order), usable)
			}
			seen := map[*rule]bool{}
			for i, r := range order {
				if seen[r] || !r.reachable {
					t.Fatal("a rule twice, or one that is not usable")
				}
				seen[r] = true
				if off := !r.retryAt.IsZero(); off != (i >= working) {
					t.Fatalf("place %d of %d working: put off %v", i, working, off)
				}
				if i > working && order[i-1].retryAt.After(r.retryAt) {
					t.Fatal("not the one due soonest first")
				}
			}
			if usable > 0 {
				firsts[order[0]]++
			}
		}
		if working > 0 && len(firsts) != working {
			t.Fatalf("%d of %d working destinations were ever first", len(firsts), working)
		}
	})
}

func TestBackoff(t *testing.T) {
	want := []time.Duration{1, 2, 4, 8, 16, 30, 30}
	for i, w := range want {
		if got := backoff(i + 1); got != w*time.Second {
			t.Errorf("after %d failures %v, want %v", i+1, got, w*time.Second)
		}
	}
	if got := backoff(math.MaxInt); got != longestBackoff {
		t.Errorf("after very many %v", got)
	}
}

func TestListenErrorSaysWhatToDo(t *testing.T) {
	key := func(port uint16) rules.ListenKey {
		return rules.ListenKey{Direction: rules.Egress, Protocol: rules.TCP, Port: port}
	}
	for _, c := range []struct {
		port  uint16
		errno syscall.Errno
		want  string
	}{
		{80, syscall.EACCES, "--egress tcp:8080:"},
		{80, syscall.EACCES, "net.ipv4.ip_unprivileged_port_start"},
		{443, syscall.EACCES, "--egress tcp:8443:"},
		{8080, syscall.EADDRINUSE, "in use"},
		{8080, syscall.EADDRNOTAVAIL, "does not have the address"},
		{8080, syscall.ENOMEM, "cannot allocate"},
	} {
		err := listenError(key(c.port), netip.AddrPortFrom(loopback4, c.port),
			&net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", c.errno)})
		if !strings.Contains(err.Error(), c.want) || !errors.Is(err, c.errno) {
			t.Errorf("%v: %v; want %q in it", c.errno, err, c.want)
		}
	}
}

func TestDialFirst(t *testing.T) {
	addrs := withPort([]netip.Addr{loopback6, loopback4}, 80)
	good, far := net.Pipe()
	defer far.Close()
	defer good.Close()
	for name, dial := range map[string]func(context.Context, netip.AddrPort) (net.Conn, error){
		"the first is refused": func(_ context.Context, a netip.AddrPort) (net.Conn, error) {
			if a == addrs[0] {
				return nil, syscall.ECONNREFUSED
			}
			return good, nil
		},
		"the first is silent": func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			if a == addrs[0] {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return good, nil
		},
	} {
		if c, err := dialFirst(t.Context(), addrs, dial); err != nil || c != good {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	_, err := dialFirst(t.Context(), addrs, func(context.Context, netip.AddrPort) (net.Conn, error) {
		return nil, syscall.ECONNREFUSED
	})
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("all refused: %v", err)
	}
}

func TestInterleave(t *testing.T) {
	var in []netip.Addr
	for _, a := range []string{"100.64.0.1", "100.64.0.2", "fd00::1", "fd00::2", "fd00::3"} {
		in = append(in, netip.MustParseAddr(a))
	}
	if got := join(interleave(in)); got != "fd00::1, 100.64.0.1, fd00::2, 100.64.0.2, fd00::3" {
		t.Error(got)
	}
}
