package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run is a report of one test with these MB/s of stock and nexd by round; 0 is
// a round that failed.
func run(stock, nexd []float64) *file {
	f := &file{Schema: schema, Rounds: len(stock)}
	for name, rates := range map[string][]float64{stockName: stock, nexdName: nexd} {
		for i, rate := range rates {
			r := result{Round: i + 1, Test: "tcp 1 up", System: name}
			if rate == 0 {
				r.Error = "it broke"
			} else {
				r.Values = values{"rate": rate, "cpu": 1000 / rate}
			}
			f.Results = append(f.Results, r)
		}
	}
	return f
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{1, 3, 3, 3}},
		{[]float64{9, 1, 2}, spread{3, 2, 1, 9}},
		{[]float64{4, 1, 2, 3}, spread{4, 2.5, 1, 4}},
	} {
		if got := spreadOf(c.of); got != c.want {
			t.Errorf("%v: %+v", c.of, got)
		}
	}
}

// Ratios are taken within rounds: the machine may be slow in one of them.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	f := run([]float64{10, 100, 50}, []float64{30, 200, 0})
	got := against(f.series("tcp 1 up", nexdName, "rate"), f.series("tcp 1 up", stockName, "rate"), false)
	if got != (spread{2, 2.5, 2, 3}) {
		t.Errorf("%+v", got)
	}
	if got := against(map[int]float64{1: 5}, map[int]float64{1: 0}, false); got.n != 0 {
		t.Errorf("a ratio to nothing: %+v", got)
	}
	if got := against(map[int]float64{1: 5}, map[int]float64{1: 3}, true); got.mid != 2 {
		t.Errorf("a difference: %+v", got)
	}
}

func TestMarkdown(t *testing.T) {
	f := run([]float64{10, 100, 50}, []float64{30, 200, 0})
	f.LeftOut = []string{"kernel TUN: it needs root"}
	var out strings.Builder
	f.markdown(&out)
	for _, want := range []string{
		"| test | | stock netstack | nexd |", "| tcp 1 up | MB/s | 50.0 | 115.0 (2.50×, 2.00–3.00) |",
		"left out: kernel TUN: it needs root", "- round 3, tcp 1 up, nexd: it broke",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestTablesGoBetweenTheMarks(t *testing.T) {
	const page = "# Page\n<!-- bench: from here -->\nold\n<!-- bench: to here -->\nend\n"
	once := string(insert([]byte(page), []byte("new\n")))
	if once != "# Page\n<!-- bench: from here -->\n\nnew\n\n<!-- bench: to here -->\nend\n" || string(insert([]byte(once), []byte("new\n"))) != once {
		t.Errorf("%q", once)
	}
	if got := string(insert([]byte("no marks"), []byte("new\n"))); got != "new\n" {
		t.Errorf("%q", got)
	}
}

func TestATestThatAlwaysFailed(t *testing.T) {
	var out strings.Builder
	run([]float64{10}, []float64{0}).markdown(&out)
	if !strings.Contains(out.String(), "| 10.0 | failed |") {
		t.Errorf("%s", out.String())
	}
}

func TestCompare(t *testing.T) {
	old := run([]float64{10, 10, 10}, []float64{20, 22, 24})
	for _, c := range []struct {
		name      string
		new       []float64
		rate, cpu string
	}{
		{"faster", []float64{25, 26, 27}, "better", "better"},
		{"slower", []float64{15, 16, 19}, "worse", "worse"},
		{"it meets", []float64{23, 30, 40}, "same", "same"},
		{"who knows", []float64{40, 40}, "too few rounds", "too few rounds"},
	} {
		got := compare(old, run([]float64{10, 10, 10}, c.new))
		if len(got) != 2 || got[0].verdict != c.rate || got[1].verdict != c.cpu {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if got := compare(old, run([]float64{10}, []float64{0})); len(got) != 0 {
		t.Errorf("compared with nothing: %+v", got)
	}
	var out strings.Builder
	changes(&out, old, run([]float64{20, 20, 20}, []float64{66, 66, 66})) // the machine is twice as fast, too
	if !strings.Contains(out.String(), "| tcp 1 up | MB/s | nexd | 2.20×, 2.00–2.40 | 3.30×, 3.30–3.30 | +50 % | better |") {
		t.Errorf("%s", out.String())
	}
}

func TestFileOfARun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.json")
	text, err := json.Marshal(run([]float64{10}, []float64{20}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := readFile(path)
	if err != nil || f.series("tcp 1 up", nexdName, "rate")[1] != 20 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, bad := range []string{"", "[]", `{"schema":1}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readFile(path); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// Every test has a name of its own, a table, and metrics in it.
func TestTests(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range tests {
		if seen[c.name] || len(c.metrics) == 0 || !inGroup(c.group)(c.name) || (c.run == nil) == (c.own == nil) {
			t.Errorf("%+v", c)
		}
		seen[c.name] = true
		for _, name := range c.on {
			if kindOf(name).start == nil {
				t.Errorf("%s: no system %s", c.name, name)
			}
		}
	}
}
