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

// TestSizerBeginsAnew: what was sent before says nothing of another path.
func TestSizerBeginsAnew(t *testing.T) {
	sent := time.Unix(1000, 0)
	s := newSizer(topMTU)
	s.step(sent)
	now := sent.Add(time.Millisecond)
	s.forget(now)
	s.answered(now.Add(time.Millisecond), sent, topMTU)
	if s.mtu != baseMTU {
		t.Errorf("%d by an answer from another network", s.mtu)
	}
	s.step(now)
	s.answered(now.Add(time.Millisecond), now, topMTU)
	if s.mtu != topMTU {
		t.Errorf("%d, proved is %d", s.mtu, topMTU)
	}
}

// TestDroppedQuestion: a question that was dropped, for there were too many, does
// not put off the next one that is due anyway.
func TestDroppedQuestion(t *testing.T) {
	now := time.Unix(1000, 0)
	path := &target{size: newSizer(topMTU)}
	m := newMachine(now, nil, nil, topMTU)
	m.best, m.sized = path, path
	path.size.answered(now, now, 1440)
	now = now.Add(activePing)
	m.large, m.pours = now.Add(-stuckFor), pouring
	m.askStuck(now)
	if got := m.take(); len(got) == 0 || got[0].do != doPadded || !got[0].spare {
		t.Fatalf("a stream that stopped is not asked after: %+v", got)
	}
	if m.verifyDue(now) {
		t.Error("it is asked twice")
	}
	m.sizeDropped(path.Addr, 1440)
	if !m.verifyDue(now) {
		t.Error("nothing is asked, and nothing is due")
	}
}
