//go:build linux

package paths

import (
	"fmt"
	"testing"
	"time"

	"nexd/test/lab"
)

// Members that nobody talks to cost no packets: of a hundred, none is checked,
// asked for or held open. What there is belongs to the service's stream and to
// the sessions with two relays.
func TestIdlePeers(t *testing.T) {
	t.Parallel()
	const peers, length = 100, 60 * time.Second
	w := New(t)
	hub := w.Join(w.Site(lab.PortRestricted, lab.Options{}).Node(1))
	for _, k := range []lab.Kind{lab.FullCone, lab.PortRestricted} {
		n := w.Site(k, lab.Options{}).Node(1)
		host := w.adopt(n)
		for i := range peers / 2 {
			w.JoinAs(host, n, fmt.Sprintf("%s-%d", n.Name, i))
		}
	}
	hub.Ready()
	if err := Until(time.Minute, func() error {
		st, err := hub.Look()
		if err == nil && len(st.Peers) < peers {
			err = fmt.Errorf("%d peers", len(st.Peers))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	cable := hub.At.Watch()
	sent := func(d time.Duration) (all, toPeers lab.Packets) {
		before := cable.Totals()
		time.Sleep(d)
		all = cable.Totals().Minus(before).Out
		toPeers = all
		toPeers.RelayOwn, toPeers.TCP, toPeers.Other = 0, 0, 0
		return all, toPeers
	}
	for range 12 { // what a start brings takes as long as the machine is slow
		if _, toPeers := sent(5 * time.Second); toPeers == (lab.Packets{}) {
			break
		}
	}
	all, toPeers := sent(length)
	t.Logf("in %s: %+v", length, all)
	if toPeers != (lab.Packets{}) {
		t.Errorf("sent to idle peers: %+v", toPeers)
	}
	// A ping each ten seconds, twice that for a session's renewal, to two relays.
	if limit := 2 * 2 * int(length/(10*time.Second)); all.RelayOwn > limit {
		t.Errorf("%d frames to relays, want at most %d", all.RelayOwn, limit)
	}
}
