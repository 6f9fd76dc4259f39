package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// flame writes a flame graph of the proxies of a system, or of any processes.
func flame(args []string) error {
	flags := flag.NewFlagSet("bench flame", flag.ContinueOnError)
	nexd := flags.String("nexd", "bin/nexd", "the daemon; one with symbols, so built without -s")
	nexctl := flags.String("nexctl", "bin/nexctl", "its command line")
	name := flags.String("system", nexdName, "whose proxies")
	streams := flags.Int("streams", 8, "of TCP that flow through them meanwhile, up")
	seconds := flags.Int("seconds", 10, "how long to look")
	pids := flags.String("pid", "", "look at these processes instead, whatever they do: PID[,PID]")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("flame: want the file to write, FILE.svg")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "nexd-flame-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	title := "processes " + *pids
	if *pids == "" {
		s, err := loaded(ctx, dir, *nexd, *nexctl, *name, *streams)
		if err != nil {
			return err
		}
		defer s.stop()
		title = fmt.Sprintf("both proxies of %s, TCP with %d streams", *name, *streams)
		*pids = fmt.Sprintf("%d,%d", s.counted[0].pid(), s.counted[1].pid())
	}
	root, err := sample(ctx, dir, *pids, *seconds)
	if err != nil {
		return err
	}
	f, err := os.Create(flags.Arg(0))
	if err != nil {
		return err
	}
	root.svg(f, title)
	return f.Close()
}

// loaded starts a system with streams that flow.
func loaded(ctx context.Context, dir, nexd, nexctl, name string, n int) (_ *system, err error) {
	raiseFiles()
	e := &env{ctx: ctx, dir: dir, shared: mayIsolate()}
	if e.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if e.nexd, err = filepath.Abs(nexd); err != nil {
		return nil, err
	}
	if e.nexctl, err = filepath.Abs(nexctl); err != nil {
		return nil, err
	}
	k := kindOf(name)
	if k.start == nil || k.old || k.isolated && e.shared != nil {
		return nil, fmt.Errorf("no such system can run here: %q", name)
	}
	s, err := e.bring(k, false)
	if err != nil {
		return nil, err
	}
	if err := s.client.call("Open", Streams{Addr: s.addr, Up: true, N: n}, &Nothing{}, 4*patience); err != nil {
		s.stop()
		return nil, err
	}
	time.Sleep(time.Second) // they have found their rate
	return s, nil
}

// sample looks at processes with perf(1).
func sample(ctx context.Context, dir, pids string, seconds int) (*node, error) {
	data := filepath.Join(dir, "perf.data")
	record := exec.CommandContext(ctx, "perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "-g", "-o", data, "-p", pids, "--", "sleep", strconv.Itoa(seconds))
	if out, err := record.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("perf record: %w: %s", err, out)
	}
	script := exec.CommandContext(ctx, "perf", "script", "-i", data, "-F", "comm,ip,sym,dso")
	out, err := script.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := script.Start(); err != nil {
		return nil, fmt.Errorf("perf script: %w", err)
	}
	root, err := readStacks(out)
	return root, errors.Join(err, script.Wait())
}

// node is a function as it was called by those above it.
type node struct {
	name     string
	kernel   bool
	samples  int
	children map[string]*node
}

func (n *node) child(f frameName) *node {
	c := n.children[f.name]
	if c == nil {
		c = &node{name: f.name, kernel: f.kernel, children: map[string]*node{}}
		n.children[f.name] = c
	}
	return c
}

// frameName is a line of a stack.
type frameName struct {
	name   string
	kernel bool
}

// readStacks reads what perf script prints: a line of the thread's name, then
// the frames, the innermost first, then an empty line.
func readStacks(r io.Reader) (*node, error) {
	root := &node{name: "all", children: map[string]*node{}}
	var stack []frameName
	flush := func() {
		if len(stack) == 0 {
			return
		}
		at := root
		at.samples++
		for _, f := range slices.Backward(stack) {
			at = at.child(f)
			at.samples++
		}
		stack = stack[:0]
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			if f, ok := parseFrame(line); ok {
				stack = append(stack, f)
			}
		}
	}
	flush()
	if root.samples == 0 {
		return nil, errors.New("no samples: did the processes do anything?")
	}
	return root, lines.Err()
}

// parseFrame reads "  ADDRESS SYMBOL (FILE)".
func parseFrame(line string) (frameName, bool) {
	_, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
	at := strings.LastIndex(rest, " (")
	if !ok || at < 0 {
		return frameName{}, false
	}
	f := frameName{name: rest[:at], kernel: strings.HasPrefix(rest[at:], " ([")}
	if !f.kernel {
		f.name = f.name[strings.LastIndexByte(f.name, '/')+1:] // of the import path the package alone
	}
	return f, true
}
