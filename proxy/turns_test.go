package proxy

import (
	"testing"

	"nexd/rules"
)

// Rules take turns for as many connections as there may be, on 32-bit systems, too.
func TestTurnsGoOn(t *testing.T) {
	spec, err := rules.Parse(rules.Ingress, "tcp:80:127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(New(Config{Directory: nobody{}}), spec.First().Key())
	all := []*rule{newRule(g.e, spec.First()), newRule(g.e, spec.First()), newRule(g.e, spec.First())}
	g.rules.Store(&all)
	for _, begun := range []uint32{0, 1<<31 - 2, 1<<32 - 6} {
		g.turn.Store(begun)
		for i := range 5 {
			order := g.candidates(func(*rule) bool { return true })
			if want := all[(uint64(begun)+uint64(i))%3]; len(order) != len(all) || order[0] != want {
				t.Errorf("after %d and %d turns it is another's", begun, i)
			}
		}
	}
}
