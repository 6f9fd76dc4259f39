package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// The main goroutine keeps its thread: processes die with the thread that
// started them (see start).
func init() { runtime.LockOSThread() }

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "child":
			return child(args[1:])
		case "flame":
			return flame(args[1:])
		case "soak":
			return soak(args[1:])
		case "compare":
			return compareFiles(args[1:])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	defer stop()
	return measure(ctx, args)
}

func compareFiles(args []string) error {
	if len(args) != 2 {
		return errors.New("compare: want two files that -json wrote: OLD NEW")
	}
	old, err := readFile(args[0])
	if err != nil {
		return err
	}
	new, err := readFile(args[1])
	if err != nil {
		return err
	}
	changes(os.Stdout, old, new)
	return nil
}

// options are what the flags say.
type options struct {
	nexd, nexctl   string
	rounds         int
	seconds        float64
	only, systems  *regexp.Regexp
	json, markdown string
	quick          bool
	old            *file  // a run to compare with
	oldNexd        string // or another nexd to run beside
}

func parseFlags(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.nexd, "nexd", "bin/nexd", "the daemon to measure")
	flags.StringVar(&o.nexctl, "nexctl", "bin/nexctl", "its command line")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; each runs every test on every system once")
	flags.Float64Var(&o.seconds, "seconds", 3, "seconds of each measurement")
	only := flags.String("only", "", "run the tests whose name matches this `pattern`")
	systems := flags.String("systems", "", "run the systems whose name matches this `pattern`; ratios need the stock netstack")
	flags.StringVar(&o.json, "json", "", "write every figure to this `file`")
	flags.StringVar(&o.markdown, "markdown", "", "write the tables to this `file`, too: between its marks, if it has them (docs/performance.md)")
	old := flags.String("old", "", "what to compare with: a `file` that -json wrote, or another nexd, which then runs beside")
	flags.BoolVar(&o.quick, "quick", false, "one short round of a few tests, to see that everything works")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("what is %q?", flags.Arg(0))
	}
	if o.quick {
		o.rounds, o.seconds = 1, 0.3
	}
	if o.rounds < 1 || o.seconds <= 0 || o.seconds > 60 {
		return nil, errors.New("-rounds from 1, -seconds up to 60")
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if o.systems, err = regexp.Compile(*systems); err != nil {
		return nil, fmt.Errorf("-systems: %w", err)
	}
	if *old != "" {
		if filepath.Ext(*old) == ".json" {
			o.old, err = readFile(*old)
		} else {
			o.oldNexd, err = program(*old, "nexd")
		}
	}
	return o, err
}

// program finds one in a directory, or takes it as it is.
func program(path, name string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path = filepath.Join(path, name)
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

func measure(ctx context.Context, args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	raiseFiles()
	e := &env{ctx: ctx, shared: mayIsolate(), old: o.oldNexd}
	if e.self, err = os.Executable(); err != nil {
		return err
	}
	if e.nexd, err = program(o.nexd, "nexd"); err != nil {
		return err
	}
	if e.nexctl, err = program(o.nexctl, "nexctl"); err != nil {
		return err
	}
	if e.dir, err = os.MkdirTemp("", "nexd-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(e.dir)

	r := &runner{options: o, env: e, up: map[string]*system{}, report: &file{
		Schema: schema, Time: time.Now().UTC(), Rounds: o.rounds, Seconds: o.seconds,
		Machine: machine(), Versions: versions(e.nexd, e.old),
	}}
	defer r.close()
	r.run()
	r.report.markdown(os.Stdout)
	if o.old != nil {
		changes(os.Stdout, o.old, r.report)
	}
	return errors.Join(r.write(), ctx.Err())
}

// write writes the files that were asked for.
func (r *runner) write() error {
	if r.json != "" {
		text, err := json.MarshalIndent(r.report, "", " ")
		if err == nil {
			err = os.WriteFile(r.json, append(text, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if r.options.markdown == "" {
		return nil
	}
	var tables bytes.Buffer
	r.report.markdown(&tables)
	page, err := os.ReadFile(r.options.markdown)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(r.options.markdown, insert(page, tables.Bytes()), 0o644)
}

// insert puts tables between the two marks of a page, or in place of a page
// that has none.
func insert(page, tables []byte) []byte {
	const begin, end = "<!-- bench: from here -->\n", "<!-- bench: to here -->\n"
	before, rest, ok := bytes.Cut(page, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return tables
	}
	return slices.Concat(before, []byte(begin+"\n"), tables, []byte("\n"+end), after)
}
