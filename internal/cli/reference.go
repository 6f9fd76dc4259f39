package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Reference returns docs/cli.md: what every command prints for --help.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Commands

What every command prints for --help. This page is written by the commands
themselves: go test ./internal/cli -update

Exit codes are the same everywhere: 0 done, 1 it failed while running, 2 the
request was wrong and nothing was changed. Errors go to standard error: a line
that begins with "error:" and, where something can be done, one with "hint:".
`)
	empty := func(string) string { return "" }
	a := &app{Streams: Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, env: empty}
	for _, program := range []struct {
		root *cobra.Command
		run  func(context.Context, []string, Streams, func(string) string) int
	}{{a.nexd(), Nexd}, {a.nexctl(), Nexctl}} {
		visible(program.root, func(c *cobra.Command) {
			var help bytes.Buffer
			args := append(strings.Fields(c.CommandPath())[1:], "--help")
			program.run(context.Background(), args, Streams{In: strings.NewReader(""), Out: &help, Err: &help}, empty)
			fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n```\n", c.CommandPath(), strings.TrimSpace(help.String()))
		})
	}
	return b.String()
}

// visible calls do for a command and everything below it that --help names.
func visible(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			visible(sub, do)
		}
	}
}
