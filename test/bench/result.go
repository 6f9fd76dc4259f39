package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is one test on one system in one round.
type result struct {
	Round  int     `json:"round"`
	Test   string  `json:"test"`
	System string  `json:"system"`
	Values values  `json:"values,omitempty"`
	Error  string  `json:"error,omitempty"`
	Steal  float64 `json:"steal_cores"` // taken by the hypervisor meanwhile
}

// file is what -json writes.
type file struct {
	Schema   int               `json:"schema"`
	Time     time.Time         `json:"time"`
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds"`
	Machine  string            `json:"machine"`
	Versions map[string]string `json:"versions"`
	LeftOut  []string          `json:"left_out,omitempty"`
	Results  []result          `json:"results"`
}

// schema of that file.
const schema = 2

// series are the values of a metric by round; rounds that failed are missing.
func (f *file) series(test, system, key string) map[int]float64 {
	out := map[int]float64{}
	for _, r := range f.Results {
		if v, ok := r.Values[key]; ok && r.Test == test && r.System == system {
			out[r.Round] = v
		}
	}
	return out
}

// failures are the errors of a test on a system.
func (f *file) failures(test, system string) (out []string) {
	for _, r := range f.Results {
		if r.Test == test && r.System == system && r.Error != "" {
			out = append(out, r.Error)
		}
	}
	return out
}

// systems are those with results of a test, in the order of kinds.
func (f *file) systems(in func(test string) bool) (out []string) {
	for _, r := range f.Results {
		if in(r.Test) && !slices.Contains(out, r.System) {
			out = append(out, r.System)
		}
	}
	order := func(name string) int {
		return slices.IndexFunc(append(kinds[:len(kinds):len(kinds)], lossyKinds...), func(k kind) bool { return k.name == name })
	}
	slices.SortStableFunc(out, func(a, b string) int { return order(a) - order(b) })
	return out
}

// spread is a median and its range.
type spread struct {
	n             int
	mid, min, max float64
}

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(v))
	mid := s[len(s)/2]
	if len(s)%2 == 0 {
		mid = (s[len(s)/2-1] + mid) / 2
	}
	return spread{len(s), mid, s[0], s[len(s)-1]}
}

func sorted(m map[int]float64) (out []float64) {
	for _, v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// against is the spread of what two systems have to each other within each
// round: the ratio, or with diff the difference.
func against(of, base map[int]float64, diff bool) spread {
	var out []float64
	for round, v := range of {
		b, ok := base[round]
		switch {
		case !ok:
		case diff:
			out = append(out, v-b)
		case b > 0:
			out = append(out, v/b)
		}
	}
	return spreadOf(out)
}

// steal returns the seconds the hypervisor took from all processors since boot.
func steal() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseSteal(string(text))
}

// parseSteal reads the eighth number of the first line, in hundredths of a second.
func parseSteal(stat string) float64 {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0
	}
	v, _ := strconv.ParseFloat(fields[8], 64)
	return v / 100
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
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, %d cores, Linux %s, %s/%s", model, runtime.NumCPU(), strings.TrimSpace(string(release)), runtime.GOOS, runtime.GOARCH)
}

// versions are those of the programs measured.
func versions(nexd, old string) map[string]string {
	v := map[string]string{"go": runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "golang.zx2c4.com/wireguard", "gvisor.dev/gvisor":
				v["stock "+d.Path] = d.Version
			}
		}
	}
	for name, bin := range map[string]string{nexdName: nexd, oldName: old} {
		if bin == "" {
			continue
		}
		out, err := exec.Command(bin, "version").Output()
		if err == nil {
			v[name] = strings.Join(strings.Fields(string(out)), " ")
		}
	}
	return v
}
