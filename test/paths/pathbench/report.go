//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// report is all that was measured.
type report struct {
	Schema    int       `json:"schema"`
	Time      time.Time `json:"time"`
	Runs      int       `json:"runs"`
	Machine   host      `json:"machine"`
	Scenarios []*result `json:"scenarios"`
}

// result is what came of one scenario.
type result struct {
	Name     string    `json:"name"`
	What     string    `json:"what"`
	Skipped  string    `json:"skipped,omitempty"` // why it could not be played
	Metrics  []*metric `json:"metrics"`
	Facts    []string  `json:"facts,omitempty"`
	Failures []string  `json:"failures,omitempty"`
	Load     load      `json:"load"`
}

// metric is one quantity over the runs: milliseconds, unless its unit says
// otherwise.
type metric struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Goal   goal      `json:"goal"`
	Values []float64 `json:"values"`
	P50    float64   `json:"p50"`
	P95    float64   `json:"p95"`
	Max    float64   `json:"max"`
}

// goal is what is wanted of a metric: upper bounds, of which 0 is none.
type goal struct {
	P50  float64 `json:"p50,omitempty"`
	P95  float64 `json:"p95,omitempty"`
	Max  float64 `json:"max,omitempty"`
	None bool    `json:"none,omitempty"` // it is not to happen at all
}

func (g goal) String() string {
	text := ""
	if g.None {
		text = " none"
	}
	for _, part := range []struct {
		name  string
		value float64
	}{{"p50", g.P50}, {"p95", g.P95}, {"max", g.Max}} {
		if part.value > 0 {
			text += fmt.Sprintf(" %s≤%g", part.name, part.value)
		}
	}
	if text == "" {
		return "-"
	}
	return text[1:]
}

// sum works out the percentiles.
func (m *metric) sum() {
	sorted := slices.Sorted(slices.Values(m.Values))
	m.P50, m.P95, m.Max = rank(sorted, 0.5), rank(sorted, 0.95), rank(sorted, 1)
}

// rank is the nearest-rank percentile of a sorted list.
func rank(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}

// verdict compares with the goal.
func (m *metric) verdict() string {
	within := func(value, limit float64) bool { return limit == 0 || value <= limit }
	switch {
	case m.Goal == goal{}:
		return ""
	case len(m.Values) == 0:
		return "nothing measured"
	case m.Goal.None && m.Max > 0:
		return "MISSED"
	case within(m.P50, m.Goal.P50) && within(m.P95, m.Goal.P95) && within(m.Max, m.Goal.Max):
		return "reached"
	}
	return "MISSED"
}

// print writes the tables.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", r.Machine)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "scenario\tmeasured\truns\tp50\tp95\tmax\tunit\tgoal\t")
	for _, s := range r.Scenarios {
		for _, m := range s.Metrics {
			fmt.Fprintf(tw, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%s\t%s\t%s\n", s.Name, m.Name, len(m.Values), m.P50, m.P95, m.Max, m.Unit, m.Goal, m.verdict())
		}
	}
	tw.Flush()
	fmt.Fprintln(w)
	for _, s := range r.Scenarios {
		if s.Skipped != "" {
			fmt.Fprintf(w, "%s: not played: %s\n", s.Name, s.Skipped)
			continue
		}
		fmt.Fprintf(w, "%s: %s; %s\n", s.Name, s.What, s.Load)
		for _, f := range s.Facts {
			fmt.Fprintf(w, "    %s\n", f)
		}
		for _, f := range s.Failures {
			fmt.Fprintf(w, "    failed: %s\n", f)
		}
	}
}

// failed is an error when a run failed; a goal that was missed is none.
func (r *report) failed() error {
	n := 0
	for _, s := range r.Scenarios {
		n += len(s.Failures)
	}
	if n > 0 {
		return fmt.Errorf("%d runs failed", n)
	}
	return nil
}
