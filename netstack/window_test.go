package netstack_test

import (
	"sync"
	"testing"
	"time"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

// Two bulk transfers side by side keep small windows; one that is alone a large one.
func TestWindowIsShared(t *testing.T) {
	a, b := netstacktest.Pair(t)
	first, firstEnd := connect(t, a, b, netstacktest.B4)
	second, secondEnd := connect(t, a, b, netstacktest.B4)

	move := func(from, to *netstack.Conn, n int) {
		var wait sync.WaitGroup
		wait.Go(func() {
			for sent := 0; sent < n; {
				k, err := from.Write(make([]byte, min(64<<10, n-sent)))
				if err != nil {
					t.Error(err)
					return
				}
				sent += k
			}
		})
		buf := make([]byte, 64<<10)
		for got := 0; got < n; {
			k, err := to.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += k
		}
		wait.Wait()
	}
	const bulk = 4 << 20
	move(first, firstEnd, bulk)
	if alone, _ := firstEnd.ReceiveBuffer(); alone != netstack.AloneBuffer {
		t.Fatalf("alone: %d bytes", alone)
	}
	deadline := time.Now().Add(patience)
	for { // a message on one, some data on the other, in turn
		move(second, secondEnd, 1)
		move(first, firstEnd, 64<<10)
		if now, _ := firstEnd.ReceiveBuffer(); now == netstack.SharedBuffer {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the window stays large beside another connection")
		}
	}
	if small, moved := secondEnd.ReceiveBuffer(); moved {
		t.Errorf("a connection of few bytes was set to %d", small)
	}
	second.Close()
	secondEnd.Close()
	for {
		move(first, firstEnd, 1<<20)
		if now, _ := firstEnd.ReceiveBuffer(); now == netstack.AloneBuffer {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the window stays small when it is alone again")
		}
	}
}
