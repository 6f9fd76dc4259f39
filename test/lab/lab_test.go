//go:build linux

package lab

import (
	"flag"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/test/cluster"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "6") // they wait more than they work
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		cluster.RemoveBinaries()
		os.Exit(code)
	}))
}

// check holds a measurement against what the kind claims.
func check(t *testing.T, n *Node, kind Kind) Behaviour {
	t.Helper()
	b, err := n.Behaviour()
	if err != nil {
		t.Errorf("%s: %v", kind, err)
		return b
	}
	want, speaks := claims[kind]
	if b.UDP != speaks {
		t.Errorf("%s: UDP %t, want %t", kind, b.UDP, speaks)
	}
	if got := (Claim{b.Mapping, b.Filtering, b.Ports}); got != want {
		t.Errorf("%s: %s; want %+v", kind, b, want)
	}
	if !b.TCP443 {
		t.Errorf("%s: TCP to port 443 does not get out", kind)
	}
	return b
}

// each runs f for every item at once.
func each[E any](list []E, f func(E)) {
	var wg sync.WaitGroup
	for _, e := range list {
		wg.Go(func() { f(e) })
	}
	wg.Wait()
}

// Every kind is what it claims, with and without a hairpin, and still after a
// rebind.
func TestKinds(t *testing.T) {
	t.Parallel()
	l := New(t)
	var plain, hairpin []*Site
	for _, k := range Kinds() {
		plain = append(plain, l.Site(k, Options{}))
		if !k.public() && k != UDPBlocked {
			hairpin = append(hairpin, l.Site(k, Options{Hairpin: true, Nodes: 2}))
		}
	}
	each(append(plain, hairpin...), func(s *Site) {
		b := check(t, s.Node(1), s.Kind)
		switch {
		case s.nat.public():
			if b.Mapped[0].Addr() != s.Node(1).V4 {
				t.Errorf("%s: seen as %s, is %s", s.Kind, b.Mapped[0], s.Node(1).V4)
			}
		case s.Kind != UDPBlocked:
			if b.Mapped[0].Addr() != s.Outside() {
				t.Errorf("%s: seen as %s, want %s", s.Kind, b.Mapped[0], s.Outside())
			}
			// What the carrier turns round is filtered by the router at home.
			if want := s.options.Hairpin && s.Kind != CGNAT; b.Hairpin != want {
				t.Errorf("%s: hairpin %t, want %t", s.Kind, b.Hairpin, want)
			}
		}
	})
	if t.Failed() {
		return
	}
	for _, s := range plain {
		s.Rebind()
	}
	each(plain, func(s *Site) {
		b, err := s.Node(1).Behaviour()
		if want := claims[s.Kind]; err != nil || b.Mapping != want.Mapping || b.Filtering != want.Filtering {
			t.Errorf("%s after a rebind: %s, %v; want %+v", s.Kind, b, err, want)
		}
		if claims[s.Kind].Ports == Preserved && !s.nat.public() && b.Ports != Changed {
			t.Errorf("%s after a rebind: ports %s", s.Kind, b.Ports)
		}
	})
}

// A lab with two sites is there before anybody waits for it, and several at
// once do not meet.
func TestSpeed(t *testing.T) {
	best := time.Hour
	for range 3 { // the machine may be busy with something else
		start := time.Now()
		l := New(t)
		l.Site(FullCone, Options{})
		l.Site(Symmetric, Options{})
		best = min(best, time.Since(start))
	}
	if best > time.Second {
		t.Errorf("two sites took %s, want at most a second", best)
	}
	first, second := New(t), New(t)
	a, b := first.Site(FullCone, Options{}), second.Site(FullCone, Options{})
	if a.Node(1).NS == b.Node(1).NS {
		t.Fatal("two labs share a namespace")
	}
	each([]*Site{a, b}, func(s *Site) { check(t, s.Node(1), FullCone) })
}
