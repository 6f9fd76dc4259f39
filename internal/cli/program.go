package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Streams are a program's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is what every command of one run shares.
type app struct {
	Streams
	env func(string) string
}

// Nexd runs the daemon's program with args (without the program's name) and
// returns its exit code. env looks up an environment variable. Signals are
// handled by the commands that run for long.
func Nexd(ctx context.Context, args []string, streams Streams, env func(string) string) int {
	a := &app{Streams: streams, env: env}
	return a.run(ctx, a.nexd(), args)
}

// Nexctl runs the control program, as [Nexd] does the daemon's.
func Nexctl(ctx context.Context, args []string, streams Streams, env func(string) string) int {
	a := &app{Streams: streams, env: env}
	return a.run(ctx, a.nexctl(), args)
}

// run executes one command and is the one place where its error is printed.
func (a *app) run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetArgs(hoist(root, args))
	err := explain(unnamed(root, args))
	if err == nil {
		err = explain(root.ExecuteContext(ctx))
	}
	if err == nil {
		return exitDone
	}
	err.print(a.Err)
	return err.Code
}

// exitCodes stand in the help of every command.
const exitCodes = `  0  done
  1  it failed while running
  2  the request was wrong: nothing was changed`

// root prepares the top of a command tree.
func (a *app) root(c *cobra.Command) *cobra.Command {
	c.SilenceErrors, c.SilenceUsage = true, true
	c.CompletionOptions.DisableDefaultCmd = true
	c.SetUsageTemplate(strings.TrimRight(c.UsageTemplate(), "\n") + "{{with index .Annotations \"exit\"}}\n\nExit codes:\n{{.}}{{end}}\n")
	c.SetFlagErrorFunc(flagError)
	c.SetHelpCommand(helpCommand())
	c.AddCommand(completionCommand(c.Name()))
	a.group(c)
	finish(c)
	return c
}

// group makes c a command that only holds others: alone it prints its help and
// the exit code is 2; an unknown command below it gets suggestions.
func (a *app) group(c *cobra.Command) *cobra.Command {
	c.SuggestionsMinimumDistance = 2
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SetOut(a.Err)
		if err := cmd.Help(); err != nil {
			return err
		}
		return &Error{Code: exitUsage, Shown: true}
	}
	return c
}

// unknownCommand names the commands that may have been meant.
func unknownCommand(cmd *cobra.Command, word string) *Error {
	hint := cmd.CommandPath() + " --help lists the commands"
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %s %s?", cmd.CommandPath(), strings.Join(near, " or "))
	}
	return wrong(hint, "unknown command %q for %s", word, cmd.CommandPath())
}

// flagError rewords what the flag parser says.
func flagError(cmd *cobra.Command, err error) error {
	if err == pflag.ErrHelp {
		return err
	}
	hint := cmd.CommandPath() + " --help lists the flags"
	var (
		unknown *pflag.NotExistError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown) && len(unknown.GetSpecifiedName()) > 1:
		name := unknown.GetSpecifiedName()
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := nearest(name, names); near != "" {
			hint = "did you mean --" + near + "?"
		}
		return wrong(hint, "unknown flag --%s for %s", name, cmd.CommandPath())
	case errors.As(err, &invalid):
		cause := errors.Unwrap(invalid)
		if rule, ok := asRuleError(cause); ok {
			return wrong(rule.Hint, "--%s: %s", invalid.GetFlag().Name, ruleText(rule))
		}
		if e := explain(cause); e.Hint != "" {
			return wrong(e.Hint, "--%s: %s", invalid.GetFlag().Name, e.Message)
		}
		return wrong("", "--%s %q: %v", invalid.GetFlag().Name, invalid.GetValue(), cause)
	}
	return wrong(hint, "%s", err.Error())
}

// takes returns a check that a command has exactly the named arguments.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := "no arguments"
		if len(names) > 0 {
			want = strings.Join(names, " ")
		}
		return wrong("write "+useLine(cmd), "%s takes %s, and was given %s", cmd.CommandPath(), want, counted(len(args), "argument"))
	}
}

// takesSome is takes for one or more arguments of one kind.
func takesSome(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return wrong("write "+useLine(cmd), "%s takes one %s or more", cmd.CommandPath(), name)
	}
}

func useLine(cmd *cobra.Command) string {
	return strings.TrimSuffix(cmd.UseLine(), " [flags]")
}

// finish gives every command below c its exit codes.
func finish(c *cobra.Command) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	if c.Annotations["exit"] == "" {
		c.Annotations["exit"] = exitCodes
	}
	c.DisableFlagsInUseLine = false
	c.Flags().SortFlags = false
	noFiles(c)
	for _, sub := range c.Commands() {
		finish(sub)
	}
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]...",
		Short:  "Help about a command",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			if err != nil || target == nil {
				return unknownCommand(cmd.Root(), args[0])
			}
			if len(rest) > 0 {
				return unknownCommand(target, rest[0])
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

func completionCommand(program string) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print the completion script of a shell: bash, zsh, fish or powershell",
		Example:   strings.ReplaceAll("  source <(PROGRAM completion bash)\n  PROGRAM completion zsh > \"${fpath[1]}/_PROGRAM\"", "PROGRAM", program),
		ValidArgs: shells,
		Args:      takes("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return wrong("write one of "+strings.Join(shells, ", "), "no completion for shell %q", args[0])
		},
	}
}
