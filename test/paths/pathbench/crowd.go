//go:build linux

package main

import (
	"fmt"
	"net"
	"time"

	"nexd/localapi"
	"nexd/test/cluster"
	"nexd/test/lab"
	"nexd/test/netns"
	"nexd/test/paths"
)

// relayKilled measures a pair that cannot be direct, with two relays near and
// the service's own one farther away.
func relayKilled(b *bench) {
	b.pair(lab.Symmetric, lab.PortRestricted)
	if !b.relayed(5 * time.Second) {
		b.skip("no relay")
		return
	}
	var relays []*cluster.Relay
	for _, name := range []string{"near", "next"} {
		relays = append(relays, b.world.Relay(b.world.Site(lab.Public, lab.Options{Name: name})))
		b.logs[name] = relays[len(relays)-1]
	}
	b.world.Home.Latency(15*time.Millisecond, 0, 0)
	c, err := b.beat(localapi.PathRelay)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	b.t.Cleanup(c.close)
	b.follow()
	silence := b.outage("killed", goal{P95: 2000})
	b.repeat(func(int) error {
		var used *cluster.Relay
		if err := paths.Until(limit, func() (err error) { // homes move to the near ones
			used, err = paths.RelayBetween(b.b, b.a, relays)
			return err
		}); err != nil {
			return err
		}
		if _, _, err := c.settle(time.Now(), steady); err != nil {
			return err
		}
		defer func() {
			if !used.Running() {
				used.Start()
			}
		}()
		return silence.measure(b, c, used.Kill)
	})
}

// peers counts what a member with many direct peers sends.
func peers(b *bench) {
	w := paths.New(b.t)
	const per = 25 // members on one host
	var rules []string
	var crowd []*paths.Member
	for i := range b.peers {
		name := fmt.Sprintf("peer%d", i)
		rules = append(rules, "--egress", fmt.Sprintf("udp:%d:%s:%d", 10000+i, name, paths.AppPort))
	}
	var host *cluster.Node
	var node *lab.Node
	for i := range b.peers {
		if i%per == 0 {
			node = w.Site(lab.FullCone, lab.Options{}).Node(1)
			host = w.Cluster.Adopt(node.Host, node.V4, node.V6)
			paths.Serve(b.t, node.Host)
		}
		crowd = append(crowd, w.JoinAs(host, node, fmt.Sprintf("peer%d", i)))
	}
	for _, m := range crowd {
		m.Ready()
	}
	hub := w.Join(w.Site(lab.PortRestricted, lab.Options{}).Node(1), rules...).Ready()
	at := w.Sites()[len(w.Sites())-1].Node(1)
	stop, err := sayEach(at, b.peers)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	defer stop()
	if err := paths.Until(limit, func() error {
		st, err := hub.Look()
		direct := 0
		for _, p := range st.Peers {
			if p.Path.Kind == localapi.PathDirect {
				direct++
			}
		}
		if err == nil && direct < b.peers {
			err = fmt.Errorf("%d of %d peers are direct", direct, b.peers)
		}
		return err
	}); err != nil {
		b.t.Fatalf("%v", err)
	}
	time.Sleep(10 * time.Second) // what finding them took is over
	cable := at.Watch()
	const length = 30 * time.Second
	time.Sleep(length)
	got := cable.Totals()
	rate := b.metric("checks", goal{Max: 60})
	rate.Unit, rate.Values = "/s", []float64{float64(got.Out.Checks) / length.Seconds()}
	b.fact("with %d peers in %s: %+v", b.peers, length, got)
}

// sayEach sends a datagram to each of the local ports from 10000 on, every
// second, until stop.
func sayEach(at *lab.Node, ports int) (stop func(), err error) {
	c, err := netns.Inside(at.Host, func() (net.PacketConn, error) { return net.ListenPacket("udp4", "127.0.0.1:0") })
	if err != nil {
		return nil, err
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second / time.Duration(ports))
		defer tick.Stop()
		for i := 0; ; i++ {
			c.WriteTo([]byte("still here"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10000 + i%ports})
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		c.Close()
	}, nil
}

// loss looks for false alarms: paths given up and packets doubled for nothing.
func loss(b *bench) {
	c := b.connected()
	const share, length = 0.05, 10 * time.Minute
	for _, m := range []*paths.Member{b.a, b.b} {
		m.At.Site().Latency(leg, 0, share/2)
	}
	cables := []*lab.Capture{b.a.At.Watch(), b.b.At.Watch()}
	begun := time.Now()
	select {
	case <-time.After(length):
	case <-b.ctx.Done():
	}
	if err := c.tcp.Err(); err != nil {
		b.fail(fmt.Errorf("TCP: %w", err))
	}
	fell := b.metric("falls from direct", goal{None: true})
	fell.Unit, fell.Values = "", []float64{float64(b.trace.Fell())}
	doubled := b.metric("doubled packets", goal{Max: 1})
	doubled.Unit = "%"
	for i, cable := range cables {
		got := cable.Totals()
		doubled.Values = append(doubled.Values, 100*float64(got.Out.Doubled)/float64(max(1, got.Out.Data)))
		b.fact("%s: %+v", []string{b.a.Name, b.b.Name}[i], got)
	}
	b.metric("silence of TCP", goal{}).add(c.tcp.Silence(begun))
	b.metric("silence of UDP", goal{}).add(c.udp.Silence(begun))
	b.fact("%.1f %% of the datagrams were lost on the way there and back", 100*c.udp.Lost(begun))
}
