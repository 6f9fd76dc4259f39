package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is one measurement.
type result struct {
	Round   int     `json:"round"`
	Test    string  `json:"test"`
	System  string  `json:"system"`
	Unit    string  `json:"unit"`
	PerSec  float64 `json:"per_second"`
	CPU     float64 `json:"cpu_seconds"`      // both proxies
	CPUUnit float64 `json:"cpu_per_gb_or_1k"` // CPU seconds per GB, or per 1,000 connections
	Steal   float64 `json:"steal_cores"`      // taken by the hypervisor meanwhile
}

func (r result) String() string {
	if r.Unit == "bytes" {
		return fmt.Sprintf("%8.1f MB/s  %6.2f CPU s/GB  steal %.2f", r.PerSec/1e6, r.CPUUnit, r.Steal)
	}
	return fmt.Sprintf("%8.0f /s    %6.2f CPU s/1000  steal %.2f", r.PerSec, r.CPUUnit, r.Steal)
}

func measure(ctx context.Context, s *system, t test, length time.Duration) (result, error) {
	cpu0, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	steal0, start := steal(), time.Now()
	amount, err := t.run(ctx, s.addr, length)
	if err != nil {
		return result{}, err
	}
	took := time.Since(start).Seconds()
	cpu1, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	per := 1e9
	if t.unit != "bytes" {
		per = 1000
	}
	return result{
		Test: t.name, System: s.name, Unit: t.unit, PerSec: amount / took,
		CPU: cpu1 - cpu0, CPUUnit: (cpu1 - cpu0) / amount * per, Steal: (steal() - steal0) / took,
	}, nil
}

// steal returns the seconds the hypervisor took from all processors since boot.
func steal() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var name string
	var v [8]float64
	fmt.Sscan(string(line), &name, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7])
	return v[7] / 100
}

func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s, %s/%s", model, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// report prints, for each test and system, the medians, and the median and
// range of the ratios to the stock netstack taken within each round.
func report(w io.Writer, results []result) {
	fmt.Fprintln(w, machine())
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "test\tsystem\tper second\tCPU s per GB or 1000\tspeed to stock\tmin–max\tCPU to stock\t")
	for _, t := range tests {
		var names []string
		for _, r := range results {
			if r.Test == t.name && !slices.Contains(names, r.System) {
				names = append(names, r.System)
			}
		}
		for _, name := range names {
			var speed, cost, ratio, cpuRatio []float64
			for _, r := range results {
				if r.Test != t.name || r.System != name {
					continue
				}
				speed, cost = append(speed, r.PerSec), append(cost, r.CPUUnit)
				for _, base := range results {
					if base.Test == t.name && base.Round == r.Round && base.System == "stock netstack" {
						ratio, cpuRatio = append(ratio, r.PerSec/base.PerSec), append(cpuRatio, r.CPUUnit/base.CPUUnit)
					}
				}
			}
			shown := fmt.Sprintf("%.0f", median(speed))
			if t.unit == "bytes" {
				shown = fmt.Sprintf("%.1f MB", median(speed)/1e6)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%.2f\t%.2f\t%.2f–%.2f\t%.2f\t\n", t.name, name, shown, median(cost),
				median(ratio), slices.Min(ratio), slices.Max(ratio), median(cpuRatio))
		}
	}
	tw.Flush()
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
