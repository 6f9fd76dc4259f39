package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of what the name cache keeps.
const (
	shortestTTL = time.Second
	longestTTL  = 5 * time.Minute
	cachedNames = 1024
	dnsAttempt  = 3 * time.Second // one question to one server
	staleWait   = 2 * time.Second // for a fresh answer while an old one is known
	staleUse    = 10 * time.Second
)

// names resolves DNS names for destinations in the mesh and keeps each answer
// for its TTL (between 1 s and 5 min). When no server answers, the last answer
// is used however old it is; a server that says the name does not exist is
// believed. Questions for the same name wait for the one under way.
type names struct {
	load func() dnsConfig // read again with each question: files change
	now  func() time.Time

	mu    sync.Mutex // guards cache and the entries' fields
	cache map[string]*nameEntry
}

// dnsConfig is what the host's files say about resolving names.
type dnsConfig struct {
	servers []string                // host:port
	search  func(string) []string   // the full names to try, in order
	hosts   map[string][]netip.Addr // lower case, without the final dot
}

type nameEntry struct {
	addrs []netip.Addr
	until time.Time
	busy  chan struct{} // closed when the question under way is answered
	err   error         // of the last question
}

func newNames(load func() dnsConfig) *names {
	return &names{load: load, now: time.Now, cache: map[string]*nameEntry{}}
}

// lookup returns the addresses of a name, at least one unless there is an error.
func (n *names) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	for {
		n.mu.Lock()
		e := n.cache[name]
		if e == nil {
			n.makeRoom()
			e = &nameEntry{}
			n.cache[name] = e
		}
		if len(e.addrs) > 0 && n.now().Before(e.until) {
			addrs := e.addrs
			n.mu.Unlock()
			return addrs, nil
		}
		busy := e.busy
		if busy == nil {
			e.busy = make(chan struct{})
			n.mu.Unlock()
			return n.refresh(ctx, name, e)
		}
		n.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-busy:
		}
		n.mu.Lock()
		addrs, err := e.addrs, e.err
		n.mu.Unlock()
		switch {
		case len(addrs) > 0:
			return addrs, nil // fresh, or stale because the question failed
		case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
			return nil, err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
	}
}

// refresh asks, and answers with what was known before if no server does.
func (n *names) refresh(ctx context.Context, name string, e *nameEntry) ([]netip.Addr, error) {
	n.mu.Lock()
	known := len(e.addrs) > 0
	n.mu.Unlock()
	if known {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, staleWait)
		defer cancel()
	}
	addrs, ttl, err := n.ask(ctx, name)
	n.mu.Lock()
	defer n.mu.Unlock()
	defer func() { close(e.busy); e.busy = nil }()
	var unknown *nameError
	switch {
	case err == nil:
		e.addrs, e.until, e.err = addrs, n.now().Add(min(max(ttl, shortestTTL), longestTTL)), nil
	case errors.As(err, &unknown) && unknown.why == nil:
		e.addrs, e.err = nil, err
		return nil, err
	case len(e.addrs) > 0:
		e.until = n.now().Add(staleUse) // ask again soon, not each time
	default:
		if e.err = err; ctx.Err() != nil {
			e.err = ctx.Err() // it says nothing to others who wait
		}
		return nil, err
	}
	return e.addrs, nil
}

// makeRoom drops an entry nobody waits for when the cache is full. The caller holds mu.
func (n *names) makeRoom() {
	if len(n.cache) < cachedNames {
		return
	}
	for name, e := range n.cache {
		if e.busy == nil {
			delete(n.cache, name)
			return
		}
	}
}

// nameError is a name that has no addresses, as far as is known.
type nameError struct {
	name string
	why  error // nobody could be asked; nil: a server says so. Not unwrapped: its timeouts are not the caller's
}

func (e *nameError) Error() string {
	if e.why == nil {
		return fmt.Sprintf("name %s does not resolve", e.name)
	}
	return fmt.Sprintf("name %s does not resolve now: %v", e.name, e.why)
}

// ask looks in the hosts file, then asks the servers for every full form of the name.
func (n *names) ask(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
	cfg := n.load()
	if addrs := cfg.hosts[trimDot(name)]; len(addrs) > 0 {
		return addrs, shortestTTL, nil
	}
	if len(cfg.servers) == 0 {
		return nil, 0, &nameError{name, errors.New("no DNS server is configured")}
	}
	var last error
	for _, full := range cfg.search(name) {
		addrs, ttl, err := askBoth(ctx, cfg.servers, full)
		if err == nil && len(addrs) > 0 {
			return addrs, ttl, nil
		}
		if err != nil {
			last = err
		}
	}
	if last != nil {
		return nil, 0, &nameError{name, last}
	}
	return nil, 0, &nameError{name, nil}
}

// askBoth asks for the IPv6 and the IPv4 addresses of a full name at once. No
// addresses and no error means that the name does not exist, or has none.
func askBoth(ctx context.Context, servers []string, full string) ([]netip.Addr, time.Duration, error) {
	type answer struct {
		addrs []netip.Addr
		ttl   time.Duration
		err   error
	}
	kinds := []uint16{dns.TypeAAAA, dns.TypeA}
	answers := make([]answer, len(kinds))
	var wg sync.WaitGroup
	for i, kind := range kinds {
		wg.Go(func() {
			a := &answers[i]
			a.addrs, a.ttl, a.err = askServers(ctx, servers, full, kind)
		})
	}
	wg.Wait()
	var all answer
	all.ttl = longestTTL
	for _, a := range answers {
		all.addrs = append(all.addrs, a.addrs...)
		if len(a.addrs) > 0 {
			all.ttl = min(all.ttl, a.ttl)
		}
		all.err = cmp.Or(all.err, a.err) // most often the same for both
	}
	if len(all.addrs) > 0 {
		return all.addrs, all.ttl, nil
	}
	return nil, 0, all.err
}

// askServers puts one question to one server after the other until one knows.
func askServers(ctx context.Context, servers []string, full string, kind uint16) ([]netip.Addr, time.Duration, error) {
	var failed error
	for _, server := range servers {
		reply, err := exchange(ctx, server, full, kind)
		if err == nil {
			switch reply.Rcode {
			case dns.RcodeSuccess, dns.RcodeNameError:
				addrs, ttl := addresses(reply, kind)
				return addrs, ttl, nil
			}
			err = fmt.Errorf("server %s: %s", server, dns.RcodeToString[reply.Rcode])
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
	}
	return nil, 0, failed
}

// exchange asks over UDP, and over TCP when the answer was cut.
func exchange(ctx context.Context, server, full string, kind uint16) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsAttempt)
	defer cancel()
	q := new(dns.Msg).SetQuestion(full, kind)
	q.Id = uint16(rand.Uint32())
	q.SetEdns0(1232, false)
	reply, err := exchangeBy(ctx, &dns.Client{Net: "udp", UDPSize: 1232}, server, q)
	if err == nil && reply.Truncated {
		reply, err = exchangeBy(ctx, &dns.Client{Net: "tcp"}, server, q)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	return reply, nil
}

// exchangeBy ends with ctx, of which the library minds the deadline only.
func exchangeBy(ctx context.Context, c *dns.Client, server string, q *dns.Msg) (*dns.Msg, error) {
	conn, err := c.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	reply, _, err := c.ExchangeWithConnContext(ctx, q, conn)
	return reply, err
}

// addresses returns the addresses of an answer that belong to the question's
// name, by way of its aliases, and the shortest TTL on that way.
func addresses(reply *dns.Msg, kind uint16) (addrs []netip.Addr, ttl time.Duration) {
	ttl = longestTTL
	owners := []string{}
	if len(reply.Question) == 1 {
		owners = append(owners, dns.CanonicalName(reply.Question[0].Name))
	}
	for range len(reply.Answer) { // aliases may stand in any order; each round finds one more
		grown := false
		for _, rr := range reply.Answer {
			c, ok := rr.(*dns.CNAME)
			if !ok || !slices.Contains(owners, dns.CanonicalName(c.Hdr.Name)) {
				continue
			}
			if to := dns.CanonicalName(c.Target); !slices.Contains(owners, to) {
				owners, grown = append(owners, to), true
				ttl = min(ttl, seconds(c.Hdr.Ttl))
			}
		}
		if !grown {
			break
		}
	}
	for _, rr := range reply.Answer {
		if rr.Header().Rrtype != kind || !slices.Contains(owners, dns.CanonicalName(rr.Header().Name)) {
			continue
		}
		var raw net.IP
		switch rr := rr.(type) {
		case *dns.A:
			raw = rr.A
		case *dns.AAAA:
			raw = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(raw); ok {
			addrs = append(addrs, a.Unmap())
			ttl = min(ttl, seconds(rr.Header().Ttl))
		}
	}
	return addrs, ttl
}

func seconds(ttl uint32) time.Duration { return time.Duration(ttl) * time.Second }
