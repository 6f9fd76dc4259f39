//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nexd/localapi"
	"nexd/test/lab"
	"nexd/test/netns"
	"nexd/test/paths"
)

// scenario is one thing that happens, many times.
type scenario struct {
	name, what string
	long       bool // only with -long
	play       func(b *bench)
}

// bench is a scenario at work.
type bench struct {
	options
	ctx      context.Context
	t        *lab.Session
	progress io.Writer
	result   *result

	world *paths.World
	a, b  *paths.Member
	trace *paths.Trace
	logs  map[string]netnsLog
}

// netnsLog is a program whose log is kept when a run fails.
type netnsLog interface{ Log() string }

var _ netnsLog = (*netns.Proc)(nil)

const (
	// port of a's loopback leads to b.
	port = 7001
	// leg is what a packet takes from a member to the core: four of them make the
	// round trip of 20 ms.
	leg = 5 * time.Millisecond
	// limit bounds every wait: what takes longer is a failure.
	limit = 90 * time.Second
	// giveUp ends a scenario after so many failures.
	giveUp = 3
)

// skip ends a scenario that cannot be played.
func (b *bench) skip(why string) {
	b.result.Skipped = why
	fmt.Fprintf(b.progress, "%-12s not played: %s\n", b.result.Name, why)
}

// fail notes what went wrong, and keeps the logs where that is wanted.
func (b *bench) fail(err error) {
	n := len(b.result.Failures)
	b.result.Failures = append(b.result.Failures, err.Error())
	fmt.Fprintf(b.progress, "%-12s failed: %v\n", b.result.Name, err)
	if b.options.logs == "" {
		return
	}
	if b.trace != nil {
		b.keep(fmt.Sprintf("%s-%d-paths.log", b.result.Name, n), b.trace.String())
	}
	for name, p := range b.logs {
		b.keep(fmt.Sprintf("%s-%d-%s.log", b.result.Name, n, name), p.Log())
	}
}

func (b *bench) keep(name, text string) {
	path := filepath.Join(b.options.logs, strings.ReplaceAll(name, " ", "-"))
	err := os.MkdirAll(b.options.logs, 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintf(b.progress, "%v\n", err)
	}
}

// fact notes what is no time.
func (b *bench) fact(format string, args ...any) {
	b.result.Facts = append(b.result.Facts, fmt.Sprintf(format, args...))
}

// metric adds a quantity in milliseconds to the scenario.
func (b *bench) metric(name string, g goal) *metric {
	m := &metric{Name: name, Unit: "ms", Goal: g, Values: []float64{}}
	b.result.Metrics = append(b.result.Metrics, m)
	return m
}

func (m *metric) add(d time.Duration) {
	m.Values = append(m.Values, float64(d.Microseconds())/1000)
}

// repeat does something for each run. What fails is noted; too much of it, or
// an interrupt, ends the scenario.
func (b *bench) repeat(once func(run int) error) {
	for run := range b.runs {
		if b.ctx.Err() != nil || len(b.result.Failures) >= giveUp {
			return
		}
		err := errors.New("unknown")
		if stopped := b.t.Try(func() { err = once(run) }); stopped != nil {
			err = stopped
		}
		if err != nil {
			b.fail(fmt.Errorf("run %d: %w", run+1, err))
			continue
		}
		line := ""
		for _, m := range b.result.Metrics {
			if n := len(m.Values); n > 0 {
				line += fmt.Sprintf("  %s %.0f", m.Name, m.Values[n-1])
			}
		}
		fmt.Fprintf(b.progress, "%-12s %3d%s\n", b.result.Name, run+1, line)
	}
}

// pair builds a lab with two members at sites of the given kinds.
func (b *bench) pair(kindA, kindB lab.Kind) {
	b.world = paths.New(b.t)
	sa, sb := b.world.Site(kindA, lab.Options{}), b.world.Site(kindB, lab.Options{})
	sa.Latency(leg, 0, 0)
	sb.Latency(leg, 0, 0)
	paths.Serve(b.t, sb.Node(1).Host)
	b.a, b.b = b.world.Join(sa.Node(1), paths.To(port, sb.Node(1).Name)...), b.world.Join(sb.Node(1))
	b.a.Ready()
	b.b.Ready()
	b.logs = map[string]netnsLog{"serve": b.world.Service, b.a.Name: b.a, b.b.Name: b.b}
}

// relayed reports whether both members are connected to a relay.
func (b *bench) relayed(limit time.Duration) bool {
	_, err := b.a.OnRelay(limit)
	_, err2 := b.b.OnRelay(limit)
	return errors.Join(err, err2) == nil
}

// follow begins to trace the pair; the scenario's end stops it.
func (b *bench) follow() { b.trace = paths.NewTrace(b.a, b.b) }

// reach returns when both members reach each other by a path of a kind.
func (b *bench) reach(kind string) (time.Time, error) {
	err := paths.Reaches(b.a, b.b, kind, limit)
	return time.Now(), err
}

// beats are the connections of a pair: TCP as applications feel it, UDP as the
// packets pass.
type beats struct{ tcp, udp *paths.Beat }

// beat opens the connections and waits until they flow over a direct path, or a
// relay's.
func (b *bench) beat(kind string) (*beats, error) {
	begun := time.Now()
	tcp, err := paths.NewBeat(b.a, "tcp", port)
	if err != nil {
		return nil, err
	}
	udp, err := paths.NewBeat(b.a, "udp", port)
	if err != nil {
		tcp.Close()
		return nil, err
	}
	c := &beats{tcp, udp}
	_, _, err = c.settle(begun, 500*time.Millisecond)
	if err == nil {
		_, err = b.reach(kind)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *beats) close() {
	c.tcp.Close()
	c.udp.Close()
}

// settle waits until both flow again since something happened, and returns
// their silences.
func (c *beats) settle(since time.Time, quiet time.Duration) (tcp, udp time.Duration, err error) {
	if tcp, err = c.tcp.Settle(since, quiet, limit); err != nil {
		return 0, 0, fmt.Errorf("TCP: %w", err)
	}
	if udp, err = c.udp.Settle(since, quiet, limit); err != nil {
		return 0, 0, fmt.Errorf("UDP: %w", err)
	}
	return tcp, udp, nil
}

// direct is the kind most scenarios want.
const direct = localapi.PathDirect
