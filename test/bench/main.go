// Command bench measures the data path of two `nexd proxy` side by side with
// two plain TCP proxies (the ceiling) and with wireguard-go's stock netstack
// doing the same job, in one run, round by round: only ratios of one run mean
// anything on a shared machine.
//
//	bench -nexd bin/nexd -nexctl bin/nexctl [-rounds 5] [-seconds 3] [-json FILE]
//
// Everything runs on loopback. The proxies of each system are two processes of
// their own; the load, client and server, is this process. CPU seconds are
// those of the two proxies together.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		if err := child(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	nexd := flags.String("nexd", "bin/nexd", "the daemon to measure")
	nexctl := flags.String("nexctl", "bin/nexctl", "its command line")
	rounds := flags.Int("rounds", 5, "rounds; each runs every system once")
	seconds := flags.Float64("seconds", 3, "seconds of each measurement")
	out := flags.String("json", "", "write every figure to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nexd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	sink, err := newServer()
	if err != nil {
		return err
	}
	defer sink.close()
	systems, err := startSystems(ctx, dir, *nexd, *nexctl, sink.addr())
	defer func() {
		for _, s := range systems {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	length := time.Duration(*seconds * float64(time.Second))
	var results []result
	for round := range *rounds {
		for _, t := range tests {
			for _, s := range systems {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r, err := measure(ctx, s, t, length)
				if err != nil {
					return fmt.Errorf("%s through %s: %w", t.name, s.name, err)
				}
				r.Round = round
				results = append(results, r)
				fmt.Fprintf(os.Stderr, "round %d  %-18s %-14s %s\n", round+1, t.name, s.name, r)
			}
		}
	}
	report(os.Stdout, results)
	if *out == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"time": time.Now().UTC(), "machine": machine(), "results": results}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, text, 0o644)
}
