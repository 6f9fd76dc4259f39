package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// readFile reads what -json wrote.
func readFile(path string) (*file, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Schema != schema {
		return nil, fmt.Errorf("%s: of schema %d, want %d", path, f.Schema, schema)
	}
	return &f, nil
}

// change is what became of one metric between two runs.
type change struct {
	test, system, unit string
	old, new           spread
	verdict            string // see judge
}

// enough is how many rounds a range needs to say something.
const enough = 3

// judge says what it means that a metric went from one range to another. It
// changed when the two do not meet.
func (m metric) judge(old, new spread) string {
	more, less := new.min > old.max, new.max < old.min
	switch {
	case old.n < enough || new.n < enough:
		return "too few rounds"
	case more && !m.lower, less && m.lower:
		return "better"
	case more, less:
		return "worse"
	}
	return "same"
}

// compare sets two runs beside each other by the ratios to the stock netstack,
// since only these can be carried from one run to another. What has no ratio
// is left out.
func compare(old, new *file) (out []change) {
	for _, t := range tests {
		for _, name := range new.systems(func(n string) bool { return n == t.name }) {
			for _, m := range t.metrics {
				if name == stockName || m.diff {
					continue
				}
				ratio := func(f *file) spread {
					return against(f.series(t.name, name, m.key), f.series(t.name, stockName, m.key), m.diff)
				}
				c := change{test: t.name, system: name, unit: m.unit, old: ratio(old), new: ratio(new)}
				if c.old.n == 0 || c.new.n == 0 {
					continue
				}
				c.verdict = m.judge(c.old, c.new)
				out = append(out, c)
			}
		}
	}
	return out
}

// changes writes what compare found.
func changes(w io.Writer, old, new *file) {
	all := compare(old, new)
	fmt.Fprintf(w, "\n### What changed since %s (ratios to the stock netstack, and whether the ranges of the rounds meet)\n\n", old.Time.Format("2006-01-02 15:04"))
	if len(all) == 0 {
		fmt.Fprintln(w, "Nothing was measured in both runs.")
		return
	}
	fmt.Fprint(w, "| test | | system | old | new | change | |\n|---|---|---|---|---|---|---|\n")
	for _, c := range all {
		by := ""
		if c.old.mid > 0 {
			by = fmt.Sprintf("%+.0f %%", 100*(c.new.mid/c.old.mid-1))
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", c.test, c.unit, c.system, c.old.ratio(), c.new.ratio(), by, c.verdict)
	}
}
