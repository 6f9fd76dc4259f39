package relayd

import (
	"errors"
	"net"
	"net/http"
	"testing"

	"go.uber.org/goleak"
)

// accepted is what came of an Accept.
type accepted struct {
	conn net.Conn
	err  error
}

// What is more than the places waits until a connection has become a WebSocket
// or has ended, and a listener that is closed lets nobody wait.
func TestEntranceHasPlaces(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := newEntrance(below, 2)
	got := make(chan accepted)
	go func() {
		for {
			c, err := in.Accept()
			got <- accepted{c, err}
			if err != nil {
				return
			}
		}
	}()
	for range 4 {
		c, err := net.Dial("tcp", below.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var inside []net.Conn
	enters := func() {
		t.Helper()
		a := <-got
		if a.err != nil {
			t.Fatal(a.err)
		}
		t.Cleanup(func() { a.conn.Close() })
		inside = append(inside, a.conn)
	}
	enters()
	enters()
	in.left(inside[0], http.StateActive)
	if len(in.places) != 2 {
		t.Errorf("%d places are taken by connections that are there, want 2", len(in.places))
	}
	in.left(inside[0], http.StateHijacked)
	enters()
	in.left(inside[1], http.StateClosed)
	enters()
	in.Close()
	if a := <-got; !errors.Is(a.err, net.ErrClosed) {
		t.Errorf("closed while full: %v", a.err)
	}
}
