//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"nexd/test/lab"
	"nexd/test/paths"
)

// first measures a pair that has just started again, so that neither knows the
// other's addresses: how long until the first byte is back, and until both
// sides are direct.
func first(b *bench, loss float64, kindA, kindB lab.Kind) {
	b.pair(kindA, kindB)
	relays := b.relayed(5 * time.Second)
	if !relays {
		if !lab.Punchable(kindA, kindB) {
			b.skip("no relay")
			return
		}
		b.fact("no relay: the first byte waits for the direct path")
	}
	byte1 := b.metric("first byte", goal{P95: 540})
	var path *metric
	if lab.Punchable(kindA, kindB) {
		path = b.metric("first direct path, warm", goal{P50: 300, P95: 1500})
	}
	if loss > 0 {
		byte1.Goal = goal{P95: 1000}
		if path != nil {
			path.Goal = goal{}
		}
		for _, m := range []*paths.Member{b.a, b.b} { // half of it at each side
			m.At.Site().Latency(leg, 0, loss/2)
		}
	}
	b.repeat(func(int) error {
		for _, m := range []*paths.Member{b.a, b.b} {
			m.Kill()
			m.Start()
		}
		for _, m := range []*paths.Member{b.a, b.b} {
			if err := warm(m, relays); err != nil {
				return err
			}
		}
		begun := time.Now()
		took, _, err := paths.Say(b.a, port, limit)
		if err != nil {
			return err
		}
		byte1.add(took)
		if path == nil {
			return nil
		}
		// Both are in use until they are direct.
		murmur, err := paths.NewBeat(b.a, "udp", port)
		if err != nil {
			return err
		}
		defer murmur.Close()
		at, err := b.reach(direct)
		if err == nil {
			path.add(at.Sub(begun))
		}
		return err
	})
}

// warm waits until a member that was started is what it is for most of its
// life: connected to the service and its relay, and aware of its own address.
func warm(m *paths.Member, relays bool) error {
	return paths.Until(limit, func() error {
		st, err := m.Look()
		connected := !relays
		for _, r := range st.Relays {
			connected = connected || r.Connected
		}
		switch {
		case err != nil:
			return err
		case !st.Ready || !st.Service.Connected || !connected:
			return fmt.Errorf("%s: ready %t, service %t, relay %t", m.Name, st.Ready, st.Service.Connected, connected)
		case len(st.NAT.Mapped) == 0 && m.At.Site().Kind != lab.UDPBlocked:
			return fmt.Errorf("%s: no mapped address", m.Name)
		}
		return nil
	})
}

// cold measures a member that has never been there before.
func cold(b *bench) {
	b.pair(lab.PortRestricted, lab.PortRestricted)
	b.relayed(5 * time.Second)
	byte1 := b.metric("first byte", goal{})
	path := b.metric("first direct path", goal{P95: 3000})
	node := b.a.At
	host := b.a.Node
	b.a.Stop() // its local port is the newcomers'
	b.repeat(func(run int) error {
		begun := time.Now()
		m := b.world.JoinAs(host, node, fmt.Sprintf("new%d", run), paths.To(port, b.b.Name)...)
		defer func() {
			m.Kill()
			b.world.Service.Ctl("device", "delete", m.Name)
		}()
		b.a, b.logs[node.Name] = m, m
		if err := paths.Until(limit, func() error {
			if !m.Running() {
				return errors.New("it ended")
			}
			_, _, err := paths.Say(m, port, 10*time.Second)
			return err
		}); err != nil {
			return err
		}
		byte1.add(time.Since(begun))
		murmur, err := paths.NewBeat(m, "udp", port)
		if err != nil {
			return err
		}
		defer murmur.Close()
		at, err := b.reach(direct)
		if err == nil {
			path.add(at.Sub(begun))
		}
		return err
	})
}
