package test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nexd/internal/cli"
	"nexd/rules"
)

// pages returns the text of every Markdown file of the tree by its path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "tmp"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".md"):
			return nil
		}
		text, err := os.ReadFile(p)
		out[strings.TrimPrefix(filepath.ToSlash(p), "../")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if out["README.md"] == "" || out["docs/cli.md"] == "" {
		t.Fatalf("found %d pages, and not the README", len(out))
	}
	return out
}

// prose is a page without its fenced blocks; blocks are these.
func prose(page string) (text string, blocks []string) {
	parts := strings.Split(page, "\n```")
	for i, part := range parts {
		if i%2 == 0 {
			text += part + "\n"
			continue
		}
		_, block, _ := strings.Cut(part, "\n")
		blocks = append(blocks, block)
	}
	return text, blocks
}

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInName = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names of a page's headings, as links write them.
func anchors(page string) (out []string) {
	text, _ := prose("\n" + page)
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := notInName.ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}

func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	for path, page := range all {
		text, _ := prose(page)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			to := path
			if target != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(path), target))
				if _, err := os.Stat(filepath.Join("..", to)); err != nil {
					t.Errorf("%s links to %s, which is not there", path, m[1])
					continue
				}
			}
			if anchor != "" && strings.HasSuffix(to, ".md") && !slices.Contains(anchors(all[to]), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", path, m[1], to)
			}
		}
	}
}

var variable = regexp.MustCompile(`\b(?:NEXD|NEXCTL)_[A-Z][A-Z_]+\b`)

var flagName = regexp.MustCompile(`(?:^|[^-\w])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)`)

// TestPagesNameFlagsThatExist reads every page but docs/status.md, whose
// matter is what does not exist yet.
func TestPagesNameFlagsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, m := range flagName.FindAllStringSubmatch(cli.Reference(), -1) {
		known[m[1]] = true
	}
	for path, page := range pages(t) {
		for _, name := range variable.FindAllString(page, -1) {
			if !strings.Contains(cli.Reference(), "["+name+"]") && !strings.HasPrefix(name, "NEXD_TEST_") {
				t.Errorf("%s names the variable %s, which no command reads", path, name)
			}
		}
		if path == "docs/status.md" {
			continue
		}
		for _, m := range flagName.FindAllStringSubmatch(page, -1) {
			if !known[m[1]] {
				t.Errorf("%s names --%s, which no command has", path, m[1])
			}
		}
	}
}

// TestCommandsInPagesParse gives every command line of ours in a fenced block
// to the programs, with --help at its end: names and values of flags are then
// read, and nothing runs.
func TestCommandsInPagesParse(t *testing.T) {
	found := 0
	for path, page := range pages(t) {
		if path == "docs/cli.md" {
			continue // the programs wrote it
		}
		_, blocks := prose(page)
		for _, block := range blocks {
			for line := range strings.Lines(block) {
				program, args, ok := command(line)
				if !ok {
					continue
				}
				found++
				if why := parses(program, args); why != "" {
					t.Errorf("%s: %s\n%s", path, strings.TrimSpace(line), why)
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d command lines found", found)
	}
}

var (
	assignment = regexp.MustCompile(`^[A-Z_]+=`)
	// remark is what stands behind a command: a comment, or words far to the right.
	remark = regexp.MustCompile(`\s#.*$|\s{3,}.*$`)
)

// command splits a line of a block into a program of ours and its arguments.
func command(line string) (program string, args []string, ok bool) {
	line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
	words := strings.Fields(remark.ReplaceAllString(line, ""))
	for len(words) > 0 && assignment.MatchString(words[0]) {
		words = words[1:]
	}
	if len(words) == 0 || words[0] != "nexd" && words[0] != "nexctl" {
		return "", nil, false
	}
	for i := range words {
		words[i] = strings.Trim(words[i], `'"`)
	}
	return words[0], words[1:], true
}

// parses says what is wrong with a command, or nothing.
func parses(program string, args []string) string {
	run := cli.Nexd
	if program == "nexctl" {
		run = cli.Nexctl
	}
	for i, arg := range args[:max(len(args)-1, 0)] {
		for _, d := range []rules.Direction{rules.Ingress, rules.Egress} {
			if arg != "--"+d.String() {
				continue
			}
			if _, err := rules.Parse(d, args[i+1]); err != nil { // read later than other flags
				return err.Error()
			}
		}
	}
	var out bytes.Buffer
	code := run(context.Background(), append(slices.Clone(args), "--help"),
		cli.Streams{In: strings.NewReader(""), Out: &out, Err: &out}, func(string) string { return "" })
	if code != 0 {
		return out.String()
	}
	// The help of a command that only holds others: the next word is none of them.
	_, usage, _ := strings.Cut(out.String(), "Usage:\n")
	first, _, _ := strings.Cut(strings.TrimSpace(usage), "\n")
	if strings.Contains(out.String(), "\nAvailable Commands:\n") && len(args) > 0 {
		return "not a command, the nearest is: " + first
	}
	return ""
}

func TestCommandOfALine(t *testing.T) {
	for line, want := range map[string]string{
		"nexd proxy --egress  tcp:5432:db:5432              brings it": "nexd|proxy|--egress|tcp:5432:db:5432",
		"NEXD_REG_KEY='https://h:1#…' nexd proxy --hostname db":        "nexd|proxy|--hostname|db",
		"$ nexctl reg-key create     # prints":                         "nexctl|reg-key|create",
		"psql -h 127.0.0.1":                                            "",
		"nexd puts an application":                                     "nexd|puts|an|application",
	} {
		program, args, ok := command(line)
		got := ""
		if ok {
			got = strings.Join(append([]string{program}, args...), "|")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	for line, wrong := range map[string]bool{
		"nexd proxy --egress tcp:5432:db:5432":      false,
		"nexd proxy --egres tcp:5432:db:5432":       true,
		"nexd proxy --egress tcp:none":              true,
		"nexctl nexd proxy addd":                    true,
		"nexctl nexd proxy add --egress tcp:1:db:2": false,
		"nexd agent": true,
	} {
		program, args, _ := command(line)
		if why := parses(program, args); (why != "") != wrong {
			t.Errorf("%s: %q", line, why)
		}
	}
}
