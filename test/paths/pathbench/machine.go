//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// host is where and with what it was measured.
type host struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
	Nexd      string `json:"nexd"`
}

func (h host) String() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, %s", h.Processor, h.Cores, h.Kernel, h.Go, h.Nexd)
}

func machine(bin string) host {
	h := host{Processor: "unknown processor", Cores: runtime.NumCPU(), Go: runtime.Version()}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			h.Processor = strings.TrimSpace(v)
			break
		}
	}
	text, _ = os.ReadFile("/proc/sys/kernel/osrelease")
	h.Kernel = strings.TrimSpace(string(text))
	out, _ := exec.Command(filepath.Join(bin, "nexd"), "version").Output()
	h.Nexd = strings.Join(strings.Fields(string(out)), " ")
	return h
}

// load is how busy all processors together were, in cores.
type load struct {
	Busy  float64 `json:"busy_cores"`
	Steal float64 `json:"steal_cores"` // taken by the hypervisor

	at time.Time
}

func (l load) String() string { return fmt.Sprintf("%.2f cores busy, %.2f stolen", l.Busy, l.Steal) }

// ticks is how many of /proc/stat are a second (USER_HZ).
const ticks = 100

// readLoad returns the seconds of processor time since boot.
func readLoad() load {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	var v [9]float64 // name, user, nice, system, idle, iowait, irq, softirq, steal
	for i, field := range strings.Fields(line) {
		if i < len(v) {
			v[i], _ = strconv.ParseFloat(field, 64)
		}
	}
	return load{Busy: (v[1] + v[2] + v[3] + v[6] + v[7]) / ticks, Steal: v[8] / ticks, at: time.Now()}
}

// since is the mean from an earlier reading to this one.
func (l load) since(before load) load {
	seconds := l.at.Sub(before.at).Seconds()
	return load{Busy: (l.Busy - before.Busy) / seconds, Steal: (l.Steal - before.Steal) / seconds}
}
