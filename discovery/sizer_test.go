package discovery

import (
	"testing"
	"time"
)

// TestSizer: whatever a path carries, the largest size that fits is found, with
// no more than eight sizes asked for at a time and thirty tries in all, and found
// again after the path changed to anything else.
func TestSizer(t *testing.T) {
	fitting := func(path int) int {
		want := baseMTU
		for _, size := range rungs {
			if size <= path {
				want = size
			}
		}
		return want
	}
	now := time.Unix(1000, 0)
	const rtt, rto = 10 * time.Millisecond, 200 * time.Millisecond
	// settle has the path answer until nothing more is asked, and returns the tries.
	settle := func(s *sizer, path int) (tries int) {
		for range 1000 {
			sizes, small := s.due(now, rto)
			sizes = append(sizes, s.step(now)...)
			if len(s.open) == 0 && len(sizes) == 0 {
				return tries
			}
			if len(s.open) > 8 {
				t.Fatalf("%d sizes at a time", len(s.open))
			}
			tries += len(sizes)
			sent := now
			now = now.Add(rtt)
			for _, size := range sizes {
				if size <= path {
					s.answered(now, sent, size)
				}
			}
			if small {
				s.answered(now, sent, 0)
			}
			if at := s.next(rto); at.After(now) {
				now = at
			}
		}
		t.Fatalf("path of %d: no end", path)
		return 0
	}
	for path := 1270; path <= 9100; path += 10 {
		s := newSizer(topMTU)
		tries := settle(s, path)
		if s.mtu != fitting(path) || tries > 30 {
			t.Fatalf("path of %d: %d after %d tries, want %d", path, s.mtu, tries, fitting(path))
		}
		next := 1270 + (path*7919)%7800
		now = now.Add(time.Minute)
		if _, asked := s.verify(now); asked && next < s.mtu {
			settle(s, next)
			if s.mtu != fitting(next) {
				t.Fatalf("path of %d, then of %d: %d, want %d", path, next, s.mtu, fitting(next))
			}
		}
		now = now.Add(time.Hour)
		settle(s, 9100)
		if s.mtu != topMTU {
			t.Fatalf("path of %d, an hour later of 9100: %d", path, s.mtu)
		}
	}
}
