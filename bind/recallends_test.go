package bind

import (
	"testing"
	"testing/synctest"
	"time"
)

// What was kept of packets to a peer that does not answer is not kept for longer
// than it can be sent again, though nothing more is sent to the peer.
func TestRecallEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := opened(t, &fakeSocket{}, Config{})
		b.epoch = b.epoch.Add(-recallAfter) // the silence a peer begins with
		peer := newPeer()
		setPath(b, peer, here)
		ep := peerEndpoint(t, b, peer)
		r := &b.lookup(peer).recall
		kept := func() int {
			synctest.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			return cap(r.kept)
		}
		for range 2 {
			for range 5 { // the last at 2 s
				if err := b.Send([][]byte{transport(1)}, ep); err != nil {
					t.Fatal(err)
				}
				time.Sleep(500 * time.Millisecond)
			}
			if got := len(r.since(b.since(), 0)); got != 5 {
				t.Errorf("%d packets can be sent again, want 5", got)
			}
			time.Sleep(recallFor)
			if got := kept(); got != 0 {
				t.Errorf("room for %d packets is kept", got)
			}
		}
	})
}
