package main

import (
	"fmt"
	"time"
)

// test is one kind of load.
type test struct {
	name  string
	group string
	// what is measured, in the order of tables.
	metrics []metric
	slow    bool // not with -quick
	// run measures a system for a time.
	run func(s *system, length time.Duration) (values, error)
	// own starts systems of its own instead; see rest.go.
	own func(e *env, system string) (values, error)
	on  []string // the systems own can measure
	// loss is what the cable loses; only with lossy.
	lossy bool
	loss  float64
}

// values are what came of a test, by the key of the metric.
type values map[string]float64

// metric is one quantity of a test.
type metric struct {
	key, unit string
	lower     bool // less is better
	digits    int
	diff      bool // it is compared by difference, not by ratio: it may be 0
}

// The groups, which are the tables of a report.
const (
	groupTCP  = "TCP streams"
	groupPing = "Latency and connections"
	groupUDP  = "UDP, datagrams of 1,200 bytes"
	groupLoss = "Losses at 40 ms of round trip, one stream"
	groupRest = "Memory and start"
)

var (
	streamMetrics = []metric{{key: "rate", unit: "MB/s", digits: 1}, {key: "cpu", unit: "CPU s/GB", digits: 2, lower: true}}
	pingMetrics   = []metric{{key: "p50", unit: "p50 µs", lower: true}, {key: "p99", unit: "p99 µs", lower: true}}
	visitMetrics  = []metric{{key: "rate", unit: "/s"}, {key: "cpu", unit: "CPU µs each", lower: true}}
	floodMetrics  = []metric{{key: "sent", unit: "offered/s"}, {key: "rate", unit: "received/s"}, {key: "loss", unit: "% lost", digits: 1, lower: true, diff: true}, {key: "cpu", unit: "CPU µs each", digits: 1, lower: true}}
)

// tests are run in this order.
var tests = allTests()

func allTests() []test {
	var all []test
	for _, n := range []int{1, 8, 64} {
		for _, up := range []bool{true, false} {
			all = append(all, test{name: fmt.Sprintf("tcp %d %s", n, way(up)), group: groupTCP, metrics: streamMetrics, slow: n != 1, run: streams(n, up, 300*time.Millisecond)})
		}
	}
	all = append(all,
		test{name: "ping idle", group: groupPing, metrics: append(pingMetrics[:2:2], metric{key: "cpu", unit: "CPU µs each", lower: true}), run: ping(false)},
		test{name: "ping busy", group: groupPing, metrics: append(pingMetrics[:2:2], metric{key: "rate", unit: "MB/s beside it", digits: 1}), run: ping(true)},
		test{name: "connections", group: groupPing, metrics: visitMetrics, run: visits},
	)
	for _, kpps := range []int{5, 10, 20, 40, 80} {
		all = append(all, test{name: fmt.Sprintf("udp %dk/s", kpps), group: groupUDP, metrics: floodMetrics, slow: kpps != 20, run: flood(kpps * 1000)})
	}
	all = append(all, test{name: "loss 0% ping", group: groupLoss, metrics: pingMetrics[:1:1], slow: true, lossy: true, run: ping(false)})
	for _, percent := range []float64{0, 0.1, 1} {
		for _, up := range []bool{true, false} {
			all = append(all, test{
				name: fmt.Sprintf("loss %g%% %s", percent, way(up)), group: groupLoss, metrics: streamMetrics,
				slow: percent == 0 || !up, lossy: true, loss: percent / 100, run: streams(1, up, time.Second),
			})
		}
	}
	return append(all, restTests...)
}

func way(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// streams measures n streams once they have flowed for a while: what the
// readers got, and what the proxies used, within a window.
func streams(n int, up bool, warm time.Duration) func(*system, time.Duration) (values, error) {
	return func(s *system, length time.Duration) (values, error) {
		if err := s.client.call("Open", Streams{Addr: s.addr, Up: up, N: n}, &Nothing{}, time.Duration(2+n/16)*patience); err != nil {
			return nil, err
		}
		time.Sleep(warm)
		w, err := s.window(up, length)
		if err != nil {
			return nil, err
		}
		if w.bytes == 0 {
			return nil, fmt.Errorf("nothing arrived within %s", length)
		}
		return values{"rate": w.bytes / w.seconds / 1e6, "cpu": w.cpu / w.bytes * 1e9}, nil
	}
}

// window is what happened within a time.
type window struct{ bytes, cpu, seconds float64 }

func (s *system) window(up bool, length time.Duration) (window, error) {
	before, err := s.look(up)
	if err != nil {
		return before, err
	}
	time.Sleep(length)
	after, err := s.look(up)
	return window{after.bytes - before.bytes, after.cpu - before.cpu, after.seconds - before.seconds}, err
}

// epoch is what the seconds of look count from.
var epoch = time.Now()

// look reads the counters of now.
func (s *system) look(up bool) (window, error) {
	reader := s.client
	if up {
		reader = s.server
	}
	var c Counts
	if err := reader.call("Count", Nothing{}, &c, patience); err != nil {
		return window{}, err
	}
	now := time.Since(epoch).Seconds()
	cpu, err := s.cpu()
	if up {
		return window{float64(c.Up), cpu, now}, err
	}
	return window{float64(c.Down), cpu, now}, err
}

// ping measures round trips of a byte, alone or beside a stream of the same direction.
func ping(busy bool) func(*system, time.Duration) (values, error) {
	return func(s *system, length time.Duration) (values, error) {
		if busy {
			if err := s.client.call("Open", Streams{Addr: s.addr, Up: true, N: 1}, &Nothing{}, 2*patience); err != nil {
				return nil, err
			}
			time.Sleep(300 * time.Millisecond)
		}
		before, err := s.look(true)
		if err != nil {
			return nil, err
		}
		var t Trips
		if err := s.client.call("Ping", Pings{s.addr, length}, &t, length+3*patience); err != nil {
			return nil, err
		}
		after, err := s.look(true)
		if err != nil {
			return nil, err
		}
		v := values{"p50": micros(t.P50), "p99": micros(t.P99)}
		if busy {
			v["rate"] = (after.bytes - before.bytes) / (after.seconds - before.seconds) / 1e6
		} else {
			v["cpu"] = (after.cpu - before.cpu) / float64(t.N+1) * 1e6
		}
		return v, nil
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// visits measures short connections in 16 workers.
func visits(s *system, length time.Duration) (values, error) {
	before, err := s.cpu()
	if err != nil {
		return nil, err
	}
	var r Visited
	if err := s.client.call("Visit", Visits{s.addr, 16, length}, &r, length+3*patience); err != nil {
		return nil, err
	}
	after, err := s.cpu()
	return values{"rate": float64(r.N) / r.Took.Seconds(), "cpu": (after - before) / float64(r.N) * 1e6}, err
}

// flood measures what arrives of datagrams offered at a rate.
func flood(rate int) func(*system, time.Duration) (values, error) {
	return func(s *system, length time.Duration) (values, error) {
		cpu, err := s.cpu()
		if err != nil {
			return nil, err
		}
		var before, after Counts
		if err := s.server.call("Count", Nothing{}, &before, patience); err != nil {
			return nil, err
		}
		var r Flooded
		if err := s.client.call("Send", Flood{s.addr, rate, length}, &r, length+2*patience); err != nil {
			return nil, err
		}
		time.Sleep(200 * time.Millisecond) // what is in queues arrives
		if err := s.server.call("Count", Nothing{}, &after, patience); err != nil {
			return nil, err
		}
		used, err := s.cpu()
		n := float64(after.Datagrams - before.Datagrams)
		if err == nil && n == 0 {
			err = fmt.Errorf("none of %d datagrams arrived", r.N)
		}
		if err != nil {
			return nil, err
		}
		return values{"sent": float64(r.N) / r.Took.Seconds(), "rate": n / r.Took.Seconds(), "loss": 100 * (1 - n/float64(r.N)), "cpu": (used - cpu) / n * 1e6}, nil
	}
}
