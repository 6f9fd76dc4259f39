//go:build linux

package paths

import (
	"fmt"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/lab"
)

// stream is two members between whom data streams over a direct path.
type stream struct {
	t      *testing.T
	sa, sb *lab.Site
	a, b   *Member
	bulk   *Bulk
}

// sized wants packets of a size both ways, within limit.
func (s *stream) sized(want int, limit time.Duration) {
	s.t.Helper()
	begun := time.Now()
	err := Until(limit, func() error {
		for _, x := range [][2]*Member{{s.a, s.b}, {s.b, s.a}} {
			p, err := x[0].Peer(x[1].Name)
			if err != nil {
				return err
			}
			if p.Path.Kind != localapi.PathDirect || p.MTU != want {
				return fmt.Errorf("%s reaches %s by %s with packets of up to %d bytes, want %d", x[0].Name, x[1].Name, Show(p.Path), p.MTU, want)
			}
		}
		return nil
	})
	if err != nil {
		pause, bytes := s.bulk.Pause()
		s.t.Fatalf("%v; %d bytes came back, and none for %s", err, bytes, pause.Round(time.Millisecond))
	}
	s.t.Logf("%d bytes after %s", want, time.Since(begun).Round(time.Millisecond))
}

// anew opens another stream in place of the first one, which began before anything
// was known of the path: its segments may have stayed as small as they were.
func (s *stream) anew() {
	s.t.Helper()
	if err := s.bulk.Close(); err != nil {
		s.t.Fatal(err)
	}
	bulk, err := NewBulk(s.a, egressPort)
	if err != nil {
		s.t.Fatal(err)
	}
	s.bulk = bulk
	s.flows("at first")
}

// flows wants the stream to go on.
func (s *stream) flows(when string) {
	s.t.Helper()
	if err := s.bulk.Flows(4<<20, 30*time.Second); err != nil {
		s.t.Fatalf("%s: %v", when, err)
	}
}

// The largest packet between two members is what the path between them carries,
// whether routers say so or not; a stream lives through its becoming less.
func TestMTU(t *testing.T) {
	t.Parallel()
	w := New(t)
	stories := []struct {
		name  string
		build func(sa, sb *lab.Site) // before anything streams
		args  []string
		tell  func(s *stream)
	}{
		{"Ethernet", func(sa, sb *lab.Site) {}, nil, func(s *stream) {
			s.sized(1440, 10*time.Second)
			s.flows("at first")
		}},
		{"1400 in the middle, without a word", func(sa, sb *lab.Site) { sb.Mute(); sb.MTU(1400) }, nil, func(s *stream) {
			s.sized(1328, 20*time.Second)
			s.flows("at first")
		}},
		{"9000", func(sa, sb *lab.Site) {
			for _, x := range []*lab.Site{sa, sb} {
				x.MTU(9000)
				x.LANMTU(9000)
			}
		}, nil, func(s *stream) {
			s.sized(8920, 10*time.Second)
			s.flows("at first")
		}},
		{"the middle shrinks without a word", func(sa, sb *lab.Site) {
			for _, x := range []*lab.Site{sa, sb} {
				x.Mute()
				x.MTU(9000)
				x.LANMTU(9000)
			}
		}, nil, func(s *stream) {
			s.sized(8920, 10*time.Second)
			s.anew()
			trace := NewTrace(s.a, s.b)
			defer trace.Close()
			s.bulk.Pause()
			w.Change(func() { s.sb.MTU(1400) })
			s.sized(1328, 20*time.Second)
			s.flows("with less")
			pause, _ := s.bulk.Pause()
			s.t.Logf("the longest pause is %s", pause.Round(time.Millisecond))
			if n := trace.Fell(); n > 0 {
				s.t.Errorf("the path was left %d times:\n%s", n, trace)
			}
		}},
		{"the middle shrinks, and routers say so", func(sa, sb *lab.Site) {}, nil, func(s *stream) {
			s.sized(1440, 10*time.Second)
			s.anew()
			s.bulk.Pause()
			w.Change(func() { s.sb.MTU(1400) })
			s.sized(1328, 20*time.Second)
			s.flows("with less")
			pause, _ := s.bulk.Pause()
			s.t.Logf("the longest pause is %s", pause.Round(time.Millisecond))
		}},
		{"pinned", func(sa, sb *lab.Site) {}, []string{"--mtu", "1300"}, func(s *stream) {
			s.sized(1300, 10*time.Second)
			s.flows("at first")
		}},
	}
	type pair struct {
		sa, sb *lab.Site
		a, b   *Member
	}
	pairs := make([]pair, len(stories))
	for i, story := range stories {
		p := &pairs[i]
		p.sa, p.sb = w.Site(lab.PortRestricted, lab.Options{}), w.Site(lab.PortRestricted, lab.Options{})
		Serve(t, p.sb.Node(1).Host)
		p.a = w.Join(p.sa.Node(1), append(To(egressPort, p.sb.Node(1).Name), story.args...)...)
		p.b = w.Join(p.sb.Node(1), story.args...)
	}
	for i, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			p := pairs[i]
			ready(p.a, p.b)
			onRelay(t, p.a, p.b)
			w.Change(func() { story.build(p.sa, p.sb) }) // TCP to the service would not survive a black hole
			bulk, err := NewBulk(p.a, egressPort)
			if err != nil {
				t.Fatal(err)
			}
			s := &stream{t: t, sa: p.sa, sb: p.sb, a: p.a, b: p.b, bulk: bulk}
			t.Cleanup(func() {
				if err := s.bulk.Close(); err != nil {
					t.Error(err)
				}
			})
			story.tell(s)
		})
	}
}
