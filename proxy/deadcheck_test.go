package proxy

import (
	"testing"

	"nexd/rules"
)

// A group whose sockets are only checked is not looked after when one of them
// ends by itself: it would end twice.
func TestCheckedGroupIsNotLookedAfter(t *testing.T) {
	spec, err := rules.Parse(rules.Ingress, "udp:53:127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{Directory: nobody{}})
	g := newGroup(e, spec.First().Key())
	g.remove()
	g.again()
	e.mover.Close() // waits for what that has begun
}
