package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// Slack is what a soak may end above where it was once it had warmed up. Go's
// collector gives memory back by its own measure, and a thread or a timer more
// or less is none that leaks.
const (
	slackMemory     = 0.10 // of the memory at rest
	slackBytes      = 2e6  // and that much more
	slackGoroutines = 3
	slackFiles      = 3
)

// soak keeps two proxies busy with mixed load for a long time, and fails when
// what they hold at rest grows.
func soak(args []string) error {
	flags := flag.NewFlagSet("bench soak", flag.ContinueOnError)
	nexd := flags.String("nexd", "bin/nexd", "the daemon")
	nexctl := flags.String("nexctl", "bin/nexctl", "its command line")
	length := flags.Duration("for", time.Hour, "how long")
	each := flags.Duration("each", 3*time.Second, "how long each load of a turn lasts")
	pause := flags.Duration("pause", 12*time.Second, "rest after each turn of loads, before memory is looked at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *length <= 0 || *each <= 0 || *pause < time.Second {
		return errors.New("soak: want -for and -each above 0, -pause from 1s, and nothing else")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	raiseFiles()
	e := &env{ctx: ctx, shared: mayIsolate()}
	var err error
	if e.dir, err = os.MkdirTemp("", "nexd-soak-"); err != nil {
		return err
	}
	defer os.RemoveAll(e.dir)
	if e.self, err = os.Executable(); err != nil {
		return err
	}
	if e.nexd, err = program(*nexd, "nexd"); err != nil {
		return err
	}
	if e.nexctl, err = program(*nexctl, "nexctl"); err != nil {
		return err
	}
	s, err := e.bring(kind{name: raisedName, start: nexdOf(nexdOptions{path: "direct", ops: true})}, false)
	if err != nil {
		return err
	}
	defer s.stop()
	var kept []pair
	var done worked
	end := time.Now().Add(*length)
	for time.Now().Before(end) && ctx.Err() == nil {
		if err := s.turn(*each, &done); err != nil {
			return fmt.Errorf("turn %d: %w", len(kept)+1, err)
		}
		s.client.call("Drop", Nothing{}, &Nothing{}, patience)
		time.Sleep(*pause)
		now, err := s.holds()
		if err != nil {
			return err
		}
		kept = append(kept, now)
		fmt.Fprintf(os.Stderr, "turn %3d  %s left  slowest ping so far %s  %s\n", len(kept), time.Until(end).Round(time.Second), done.ping.Round(time.Millisecond), now)
	}
	return verdict(os.Stdout, kept, done)
}

// worked is what the loads of a soak did.
type worked struct {
	bytes                          float64
	connections, datagrams, parked int
	ping                           time.Duration // the slowest
}

// turn is one of each load: streams up and down with a ping beside them, short
// connections, datagrams, and a crowd that stays for a moment.
func (s *system) turn(each time.Duration, done *worked) error {
	for _, up := range []bool{true, false} {
		before, err := s.look(up)
		if err != nil {
			return err
		}
		if err := s.client.call("Open", Streams{Addr: s.addr, Up: up, N: 8}, &Nothing{}, 4*patience); err != nil {
			return err
		}
		var t Trips
		if err := s.client.call("Ping", Pings{s.addr, each}, &t, each+3*patience); err != nil {
			return fmt.Errorf("ping beside 8 streams %s: %w", way(up), err)
		}
		done.ping = max(done.ping, t.Max)
		after, err := s.look(up)
		if err != nil {
			return err
		}
		done.bytes += after.bytes - before.bytes
		if err := s.client.call("Drop", Nothing{}, &Nothing{}, patience); err != nil {
			return err
		}
	}
	var v Visited
	if err := s.client.call("Visit", Visits{s.addr, 16, each}, &v, each+3*patience); err != nil {
		return err
	}
	done.connections += v.N
	var f Flooded
	if err := s.client.call("Send", Flood{s.addr, 10000, each}, &f, each+2*patience); err != nil {
		return err
	}
	done.datagrams += f.N
	const crowd = 1000
	if err := s.client.call("Idle", Crowd{s.addr, crowd}, new(time.Duration), 2*time.Minute); err != nil {
		return err
	}
	done.parked += crowd
	return s.path()
}

// holdings are what a process holds at rest.
type holdings struct{ rss, heap, goroutines, files float64 }

// pair is what both proxies hold, the one at the server first.
type pair [2]holdings

func (h holdings) String() string {
	return fmt.Sprintf("%.1f MB, heap %.1f MB, %.0f goroutines, %.0f files", h.rss/1e6, h.heap/1e6, h.goroutines, h.files)
}

func (b pair) String() string { return fmt.Sprintf("ingress %s; egress %s", b[0], b[1]) }

// holds looks at both.
func (s *system) holds() (b pair, err error) {
	for i, p := range s.counted {
		if b[i].rss, err = p.rss(); err != nil {
			return b, err
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
		if err != nil {
			return b, err
		}
		b[i].files = float64(len(files))
		var text string
		if err := s.client.call("Fetch", "http://"+s.ops[i]+"/metrics", &text, patience); err != nil {
			return b, fmt.Errorf("metrics: %w", err)
		}
		if b[i].goroutines, err = gauge(text, "go_goroutines"); err != nil {
			return b, err
		}
		if b[i].heap, err = gauge(text, "go_memstats_heap_inuse_bytes"); err != nil {
			return b, err
		}
	}
	return b, nil
}

// Fetch returns a document of a server at the agent's place.
func (a *Agent) Fetch(url string, text *string) error {
	client := http.Client{Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer client.CloseIdleConnections()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	*text = string(b)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}

// gauge finds a metric without labels.
func gauge(text, name string) (float64, error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("there is no %s among the metrics", name)
}

// grown compares the last quarter of what was seen with the second one, in
// which caches and pools have filled, both by their medians.
type grown struct {
	what        string
	early, late float64
	most        float64
}

func growth(kept []pair) (all []grown, err error) {
	quarter := len(kept) / 4
	if quarter < 2 {
		return nil, fmt.Errorf("%d turns say nothing about growth: let it run for longer", len(kept))
	}
	for i, who := range []string{"ingress", "egress"} {
		between := func(from, to int, of func(holdings) float64) float64 {
			var v []float64
			for _, b := range kept[from:to] {
				v = append(v, of(b[i]))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		add := func(what string, most func(early float64) float64, of func(holdings) float64) {
			g := grown{what: who + " " + what, early: between(quarter, 2*quarter, of), late: between(len(kept)-quarter, len(kept), of)}
			g.most = most(g.early)
			all = append(all, g)
		}
		memory := func(early float64) float64 { return early*(1+slackMemory) + slackBytes }
		add("resident memory, bytes", memory, func(h holdings) float64 { return h.rss })
		add("heap in use, bytes", memory, func(h holdings) float64 { return h.heap })
		add("goroutines", func(early float64) float64 { return early + slackGoroutines }, func(h holdings) float64 { return h.goroutines })
		add("open files", func(early float64) float64 { return early + slackFiles }, func(h holdings) float64 { return h.files })
	}
	return all, nil
}

// verdict says what was done and what is held, and fails when that has grown.
func verdict(w io.Writer, kept []pair, done worked) error {
	fmt.Fprintf(w, "%d turns: %.0f GB by TCP, %d short connections, %d datagrams, %d connections that waited; no ping took more than %s\n",
		len(kept), done.bytes/1e9, done.connections, done.datagrams, done.parked, done.ping.Round(time.Millisecond))
	all, err := growth(kept)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "at rest\tfirst\tsecond quarter\tlast quarter\tat most")
	var wrong error
	for i, g := range all {
		first := kept[0][i/4]
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.0f\t%.0f\n", g.what, []float64{first.rss, first.heap, first.goroutines, first.files}[i%4], g.early, g.late, g.most)
		if g.late > g.most {
			wrong = cmp.Or(wrong, fmt.Errorf("%s: they grow", g.what))
		}
	}
	return errors.Join(table.Flush(), wrong)
}
