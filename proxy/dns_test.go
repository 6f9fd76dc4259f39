package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer answers over UDP from a table that the test changes.
type nameServer struct {
	addr  string
	asked atomic.Int64
	mu    sync.Mutex
	zone  map[string][]string // records by owner
	code  int
	cut   bool // answer over UDP with nothing but the truncation bit
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	var (
		pc  net.PacketConn
		ln  net.Listener
		err error
	)
	for range 50 { // until a port is free for both
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			continue
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{addr: pc.LocalAddr().String(), zone: map[string][]string{}}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for _, srv := range []*dns.Server{
		{PacketConn: pc, Handler: s.handler(true)},
		{Listener: ln, Handler: s.handler(false)},
	} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = srv.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	return s
}

func (s *nameServer) set(code int, records ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.zone = code, map[string][]string{}
	for _, r := range records {
		owner, _, _ := strings.Cut(r, " ")
		s.zone[owner] = append(s.zone[owner], r)
	}
}

func (s *nameServer) handler(udp bool) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		s.asked.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		m := new(dns.Msg).SetReply(q)
		m.Rcode = s.code
		if udp && s.cut {
			m.Truncated = true
			_ = w.WriteMsg(m)
			return
		}
		for owner := q.Question[0].Name; ; {
			next := ""
			for _, text := range s.zone[owner] {
				rr, err := dns.NewRR(text)
				if err != nil {
					continue
				}
				if c, ok := rr.(*dns.CNAME); ok {
					next = c.Target
				}
				if rr.Header().Rrtype == q.Question[0].Qtype || next != "" {
					m.Answer = append(m.Answer, rr)
				}
			}
			if next == "" {
				break
			}
			owner = next
		}
		if len(m.Answer) == 0 && s.code == 0 && len(s.zone[q.Question[0].Name]) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
}

// clock is time that the test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func testNames(servers ...string) (*names, *clock) {
	c := &clock{}
	n := newNames(func() dnsConfig {
		return dnsConfig{
			servers: servers,
			search:  (&dns.ClientConfig{Ndots: 1, Search: []string{"corp.test"}}).NameList,
			hosts:   map[string][]netip.Addr{"filed": {netip.MustParseAddr("100.64.0.7")}},
		}
	})
	n.now = c.now
	return n, c
}

func expectAddrs(t *testing.T, n *names, name string, want ...string) {
	t.Helper()
	got, err := n.lookup(t.Context(), name)
	if err != nil || join(got) != strings.Join(want, ", ") {
		t.Fatalf("%s: %v, %v; want %v", name, got, err, want)
	}
}

func TestNamesKeepTheirTTL(t *testing.T) {
	s := startNameServer(t)
	n, clock := testNames(s.addr)
	s.set(0, "db.test. 30 IN A 100.64.0.2", "db.test. 20 IN AAAA fd00::2")
	expectAddrs(t, n, "db.test", "fd00::2", "100.64.0.2")
	asked := s.asked.Load()
	s.set(0, "db.test. 30 IN A 100.64.0.3")
	clock.advance(19 * time.Second)
	expectAddrs(t, n, "db.test", "fd00::2", "100.64.0.2")
	if s.asked.Load() != asked {
		t.Error("asked again within the TTL")
	}
	clock.advance(2 * time.Second)
	expectAddrs(t, n, "db.test", "100.64.0.3")
}

func TestNamesBoundTheTTL(t *testing.T) {
	s := startNameServer(t)
	n, clock := testNames(s.addr)
	s.set(0, "zero.test. 0 IN A 100.64.0.2", "week.test. 604800 IN A 100.64.0.2")
	expectAddrs(t, n, "zero.test", "100.64.0.2")
	expectAddrs(t, n, "week.test", "100.64.0.2")
	s.set(0, "zero.test. 0 IN A 100.64.0.3", "week.test. 604800 IN A 100.64.0.3")
	expectAddrs(t, n, "zero.test", "100.64.0.2") // less than a second later
	clock.advance(time.Second)
	expectAddrs(t, n, "zero.test", "100.64.0.3")
	clock.advance(longestTTL)
	expectAddrs(t, n, "week.test", "100.64.0.3")
}

func TestNamesUseWhatTheyKnewWhenNobodyAnswers(t *testing.T) {
	s := startNameServer(t)
	n, clock := testNames(s.addr)
	s.set(0, "db.test. 1 IN A 100.64.0.2")
	expectAddrs(t, n, "db.test", "100.64.0.2")
	s.set(dns.RcodeServerFailure)
	clock.advance(time.Hour)
	expectAddrs(t, n, "db.test", "100.64.0.2")
	s.set(0, "other.test. 1 IN A 100.64.0.9") // the name is gone, the server says so
	clock.advance(staleUse)
	if _, err := n.lookup(t.Context(), "db.test"); !isNotFound(err) {
		t.Fatalf("error %v, want no such host", err)
	}
	s.set(dns.RcodeServerFailure)
	if _, err := n.lookup(t.Context(), "db.test"); err == nil || isNotFound(err) {
		t.Fatalf("error %v, want that of the server", err)
	}
}

func isNotFound(err error) bool {
	var e *nameError
	return errors.As(err, &e) && e.why == nil
}

func TestNamesWays(t *testing.T) {
	s := startNameServer(t)
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deadAddr := dead.LocalAddr().String()
	dead.Close()
	n, _ := testNames(deadAddr, s.addr) // the second server is asked when the first fails
	s.set(0,
		"alias.test. 60 IN CNAME real.test.", "real.test. 60 IN A 100.64.0.2",
		"short.corp.test. 60 IN A 100.64.0.4", "loop.test. 60 IN CNAME loop2.test.")
	expectAddrs(t, n, "alias.test", "100.64.0.2")
	expectAddrs(t, n, "short", "100.64.0.4") // by the search list
	expectAddrs(t, n, "filed", "100.64.0.7") // by the hosts file
	if _, err := n.lookup(t.Context(), "loop.test"); err == nil {
		t.Error("an alias of nothing resolved")
	}
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	s.zone["long.test."] = []string{"long.test. 60 IN A 100.64.0.5"}
	expectAddrs(t, n, "long.test", "100.64.0.5") // over TCP
}

func TestNamesAskOnceForMany(t *testing.T) {
	s := startNameServer(t)
	n, _ := testNames(s.addr)
	s.set(0, "db.test. 60 IN A 100.64.0.2")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := n.lookup(context.Background(), "db.test"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := s.asked.Load(); got != 2 {
		t.Errorf("%d questions for 50 lookups, want 2 (A and AAAA)", got)
	}
}

func TestAddressesIgnoresForeignRecords(t *testing.T) {
	m := new(dns.Msg).SetQuestion("db.test.", dns.TypeA)
	for _, text := range []string{"other.test. 60 IN A 192.0.2.1", "x.test. 9 IN CNAME y.test.", "a.test. 5 IN CNAME b.test.", "db.test. 50 IN CNAME a.test.", "b.test. 60 IN A 100.64.0.2"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	addrs, ttl := addresses(m, dns.TypeA)
	if join(addrs) != "100.64.0.2" || ttl != 5*time.Second {
		t.Errorf("%v for %v", addrs, ttl)
	}
}

func TestReadDNSConfig(t *testing.T) {
	dir := t.TempDir()
	resolv, hosts := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(resolv, "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch corp.test\n")
	write(hosts, "127.0.0.1 localhost\n100.64.0.2 DB.example. db # here\nnonsense\nfd00::2 db\n")
	c := readDNSConfig(resolv, hosts)
	if strings.Join(c.servers, " ") != "192.0.2.1:53 [2001:db8::1]:53" {
		t.Errorf("servers %v", c.servers)
	}
	if join(c.hosts["db"]) != "100.64.0.2, fd00::2" || join(c.hosts["db.example"]) != "100.64.0.2" {
		t.Errorf("hosts %v", c.hosts)
	}
	c = readDNSConfig(filepath.Join(dir, "none"), filepath.Join(dir, "none"))
	if len(c.servers) != 0 || len(c.search("x")) != 1 {
		t.Errorf("without files: %+v", c)
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 a b c # d\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name, addrs := range parseHosts(strings.NewReader(text)) {
			if strings.ContainsAny(name, " \t\n#") || len(addrs) == 0 {
				t.Errorf("%q: %v", name, addrs)
			}
		}
	})
}
