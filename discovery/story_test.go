package discovery

import (
	"testing"
	"time"
)

// An answer says when its datagram came, and is dealt with a moment after others.
func TestStoryIsInOrder(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	var s story
	for i := range 3 * maxStory {
		s.add(begin.Add(time.Duration(i^1)*time.Second), "event")
	}
	if len(s.events) != maxStory {
		t.Fatalf("%d events are kept, want %d", len(s.events), maxStory)
	}
	for i, e := range s.events {
		if want := begin.Add(time.Duration(2*maxStory+i) * time.Second); !e.At.Equal(want) {
			t.Errorf("event %d is of %v, want %v", i, e.At.Sub(begin), want.Sub(begin))
		}
	}
}
