package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// head says where, when and with what it was measured.
func (f *file) head(w io.Writer) {
	fmt.Fprintf(w, "Measured on %s: %s.\n", f.Time.Format("2006-01-02"), f.Machine)
	fmt.Fprintf(w, "%d rounds of %g s each.", f.Rounds, f.Seconds)
	var stolen []float64
	for _, r := range f.Results {
		stolen = append(stolen, r.Steal)
	}
	s := spreadOf(stolen)
	fmt.Fprintf(w, " Steal: %.2f cores in the median, %.2f at most.\n\n", s.mid, s.max)
	for _, name := range slices.Sorted(maps.Keys(f.Versions)) {
		fmt.Fprintf(w, "- %s: %s\n", name, f.Versions[name])
	}
	for _, line := range f.LeftOut {
		fmt.Fprintf(w, "- left out: %s\n", line)
	}
}

// markdown writes the tables. A cell has the median of a system, and in
// brackets what it is to the stock netstack in the same round: the median and
// the range.
func (f *file) markdown(w io.Writer) {
	f.head(w)
	for _, group := range []string{groupTCP, groupPing, groupUDP, groupLoss, groupRest} {
		f.table(w, group)
	}
	f.pairs(w)
	f.failed(w)
}

func inGroup(group string) func(string) bool {
	return func(name string) bool {
		i := slices.IndexFunc(tests, func(t test) bool { return t.name == name })
		return i >= 0 && tests[i].group == group
	}
}

func (f *file) table(w io.Writer, group string) {
	names := f.systems(inGroup(group))
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "\n### %s\n\n| test | |", group)
	for _, name := range names {
		fmt.Fprintf(w, " %s |", name)
	}
	fmt.Fprintf(w, "\n|---|---|%s\n", strings.Repeat("---|", len(names)))
	for _, t := range tests {
		if t.group != group || len(f.systems(func(name string) bool { return name == t.name })) == 0 {
			continue
		}
		for _, m := range t.metrics {
			fmt.Fprintf(w, "| %s | %s |", t.name, m.unit)
			for _, name := range names {
				fmt.Fprintf(w, " %s |", f.cell(t, m, name))
			}
			fmt.Fprintln(w)
		}
	}
}

func (f *file) cell(t test, m metric, system string) string {
	own := f.series(t.name, system, m.key)
	if len(own) == 0 {
		if len(f.failures(t.name, system)) > 0 {
			return "failed"
		}
		return ""
	}
	text := fmt.Sprintf("%.*f", m.digits, spreadOf(sorted(own)).mid)
	if system == stockName || m.diff {
		return text
	}
	if r := against(own, f.series(t.name, stockName, m.key), m.diff); r.n > 0 {
		text += " (" + r.ratio() + ")"
	}
	return text
}

// ratio is "2.31×, 2.10–2.60".
func (s spread) ratio() string {
	if s.n == 1 {
		return fmt.Sprintf("%.2f×", s.mid)
	}
	return fmt.Sprintf("%.2f×, %.2f–%.2f", s.mid, s.min, s.max)
}

// pairs are systems that are to be compared beside the yardstick.
var pairs = []struct{ of, base string }{
	{nexdName, oldName},
	{nexdName, kernelName},
	{raisedName, nexdName},
	{"nexd udp relay", nexdName},
	{"nexd tls relay", nexdName},
}

// pairs writes what systems are to one another within each round. What nexd is
// to an older one has a verdict.
func (f *file) pairs(w io.Writer) {
	all := slices.DeleteFunc(slices.Clone(pairs), func(p struct{ of, base string }) bool {
		names := f.systems(func(string) bool { return true })
		return !slices.Contains(names, p.of) || !slices.Contains(names, p.base)
	})
	if len(all) == 0 {
		return
	}
	fmt.Fprint(w, "\n### One to another, in the same round\n\n| test | |")
	for _, p := range all {
		fmt.Fprintf(w, " %s / %s |", p.of, p.base)
	}
	fmt.Fprintf(w, "\n|---|---|%s\n", strings.Repeat("---|", len(all)))
	for _, t := range tests {
		for _, m := range t.metrics {
			line, any := "", false
			for _, p := range all {
				r := against(f.series(t.name, p.of, m.key), f.series(t.name, p.base, m.key), false)
				cell := ""
				if r.n > 0 && !m.diff {
					cell, any = r.ratio(), true
					if p.base == oldName {
						cell += ", " + m.judge(spread{r.n, 1, 1, 1}, r)
					}
				}
				line += " " + cell + " |"
			}
			if any {
				fmt.Fprintf(w, "| %s | %s |%s\n", t.name, m.unit, line)
			}
		}
	}
}

// failed lists what went wrong.
func (f *file) failed(w io.Writer) {
	begun := false
	for _, r := range f.Results {
		if r.Error == "" {
			continue
		}
		if !begun {
			fmt.Fprintf(w, "\n### What failed\n\n")
			begun = true
		}
		fmt.Fprintf(w, "- round %d, %s, %s: %s\n", r.Round, r.Test, r.System, strings.ReplaceAll(r.Error, "\n", " "))
	}
}

// line shows a result while the run goes on.
func (r *result) line(t test) string {
	if r.Error != "" {
		return "FAILED: " + r.Error
	}
	var parts []string
	for _, m := range t.metrics {
		if v, ok := r.Values[m.key]; ok {
			parts = append(parts, fmt.Sprintf("%.*f %s", m.digits, v, m.unit))
		}
	}
	return strings.Join(parts, "  ") + fmt.Sprintf("  steal %.2f", r.Steal)
}
