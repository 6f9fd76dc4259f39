//go:build linux

// Command pathbench measures how fast real nexd daemons find their paths and
// how long their connections are silent when networks change, in the NAT lab:
// every scenario many times, as percentiles beside the goal. It needs root;
// nothing leaves the machine.
//
//	make bench-paths
//	make bench-paths BENCHFLAGS='-runs 50 -only rebind -json paths.json'
//	make bench-paths BENCHFLAGS='-long -only loss'
//
// A silence is the longest time without an answer on a connection through two
// proxies that says something every 20 ms; times until a path is there are of
// the slower of the two sides. Unless a scenario says otherwise the two members
// are 20 ms of round trip apart and the service stands in the middle.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"nexd/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	runs  int
	peers int
	long  bool
	logs  string
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("pathbench", flag.ContinueOnError)
	var o options
	bin := flags.String("bin", "bin", "directory of nexd and nexctl")
	only := flags.String("only", "", "run the scenarios whose name matches this pattern")
	file := flags.String("json", "", "write every figure to this file")
	flags.IntVar(&o.runs, "runs", 20, "runs of each scenario")
	flags.IntVar(&o.peers, "peers", 100, "peers of the scenario peers")
	flags.BoolVar(&o.long, "long", false, "also what takes ten minutes")
	flags.StringVar(&o.logs, "logs", "", "write the programs' logs to this directory when a run fails")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if err := os.Setenv("NEXD_TEST_BIN", *bin); err != nil { // where package cluster looks
		return err
	}
	r := report{Schema: 1, Time: time.Now().UTC(), Runs: o.runs, Machine: machine(*bin)}
	fmt.Fprintln(progress, r.Machine)
	for _, s := range scenarios {
		if !wanted.MatchString(s.name) || s.long && !o.long {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		r.Scenarios = append(r.Scenarios, play(ctx, s, o, progress))
	}
	r.print(out)
	if *file != "" {
		text, err := json.MarshalIndent(r, "", " ")
		if err == nil {
			err = os.WriteFile(*file, append(text, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return r.failed()
}

// play runs one scenario in a lab of its own.
func play(ctx context.Context, s scenario, o options, progress io.Writer) *result {
	session := lab.NewSession(progress)
	defer session.End()
	b := &bench{ctx: ctx, t: session, options: o, progress: progress, result: &result{Name: s.name, What: s.what}}
	before := readLoad()
	if err := session.Try(func() { s.play(b) }); err != nil {
		b.fail(err)
	}
	b.result.Load = readLoad().since(before)
	if b.trace != nil {
		b.trace.Close()
		caused := b.metric("WireGuard handshakes caused, as both sides count", goal{None: true})
		caused.Unit, caused.Values = "", []float64{float64(b.trace.Caused())}
	}
	for _, m := range b.result.Metrics {
		m.sum()
	}
	return b.result
}
