package netstack_test

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack/netstacktest"
)

// After Flush the peer has everything, however soon the wire is cut.
func TestFlushDeliversLastWords(t *testing.T) {
	a, b := netstacktest.PairWith(t, netstacktest.Options{Loss: 0.02, Seed: 3})
	client, server := connect(t, a, b, netstacktest.B4)
	data := bytes.Repeat([]byte("last words "), 50_000)
	got := make(chan []byte, 1)
	go func() {
		all, err := io.ReadAll(server)
		if err != nil {
			t.Error(err)
		}
		got <- all
	}()
	must(t, write(client, string(data)))
	must(t, client.Close())
	ctx := testContext(t)
	a.Flush(ctx)
	must(t, ctx.Err())
	must(t, a.Close())
	if all := <-got; !bytes.Equal(all, data) {
		t.Errorf("%d bytes of %d arrived", len(all), len(data))
	}
}

// A FIN that waits behind data for which the peer has no room is waited for.
func TestFlushWaitsForHiddenFin(t *testing.T) {
	a, b := netstacktest.Pair(t)
	client, server := connect(t, a, b, netstacktest.B6)
	must(t, client.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	for err := error(nil); err == nil; { // until both buffers are full
		_, err = client.Write(make([]byte, 1<<20))
	}
	must(t, client.Close())
	flushed := make(chan struct{})
	ctx := testContext(t)
	go func() { defer close(flushed); a.Flush(ctx) }()
	select {
	case <-flushed:
		t.Fatal("flushed while the peer reads nothing")
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{server}); err != nil {
		t.Fatal(err)
	}
	<-flushed
	must(t, ctx.Err())
}

func TestFlushEndsWithItsContext(t *testing.T) {
	var cut atomic.Bool
	a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: func([]byte, bool) bool {
		return !cut.Load()
	}})
	client, _ := connect(t, a, b, netstacktest.B4)
	cut.Store(true)
	must(t, client.CloseWrite())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	a.Flush(ctx)
	if ctx.Err() == nil {
		t.Error("flushed although nobody has acknowledged the FIN")
	}
}

// Open connections, TIME_WAIT and a peer that does not close are not waited for.
func TestFlushDoesNotWaitForMore(t *testing.T) {
	a, b := netstacktest.Pair(t)
	open, _ := connect(t, a, b, netstacktest.B4)
	half, halfServer := connect(t, a, b, netstacktest.B4)
	done, doneServer := connect(t, a, b, netstacktest.B4)
	must(t, half.CloseWrite())
	must(t, done.Close())
	if _, err := doneServer.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	must(t, doneServer.Close())
	ctx := testContext(t)
	a.Flush(ctx)
	b.Flush(ctx)
	must(t, ctx.Err())
	must(t, write(open, "still open"))
	must(t, write(halfServer, "still open"))
}

// Packets wait for a reader of the device; a closed stack has nothing to wait for.
func TestFlushWaitsForDevice(t *testing.T) {
	s := netstacktest.Stack(t, 0, netstacktest.A4)
	inject(t, s, packet4(netstacktest.B4, netstacktest.A4, uint8(header.TCPProtocolNumber), syn(1, 80)))
	flushed := make(chan struct{})
	go func() { defer close(flushed); s.Flush(t.Context()) }()
	select {
	case <-flushed:
		t.Fatal("flushed while the reset is still queued")
	case <-time.After(20 * time.Millisecond):
	}
	must(t, s.Device().Close())
	<-flushed
}
