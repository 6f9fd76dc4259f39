package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// hoist moves flags that stand before a command behind it, so that every flag
// may stand on either side: "--reg-key K proxy" becomes "proxy --reg-key K".
// Which command knows the flag is then that command's matter.
func hoist(root *cobra.Command, args []string) []string {
	var lead, tail []string
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		// The last word is the one to complete: it keeps its place.
		lead, args = args[:1], args[1:]
		if n := len(args); n > 0 {
			args, tail = args[:n-1], args[n-1:]
		}
	}
	_, path, flags, args := dissect(root, args)
	if lead != nil && len(path) == 0 {
		flags = nil // a command is being completed; the root knows none of the flags
	}
	return slices.Concat(lead, path, flags, args, tail)
}

// unnamed returns the error of arguments whose words name a group of commands
// and none in it; else nil. Without it a flag would be blamed, which a command
// knows and the group does not.
func unnamed(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	cmd, _, flags, rest := dissect(root, args)
	if !cmd.HasSubCommands() {
		return nil
	}
	takesValue := knownFlags(root)
	for i := 0; i < len(flags); i++ {
		name, _, joined := strings.Cut(flags[i], "=")
		value, known := takesValue[name]
		if !known {
			return nil // help, or the flag is wrong indeed
		}
		if value && !joined {
			i++
		}
	}
	switch {
	case len(rest) == 0 && len(flags) > 0:
		return wrong(cmd.CommandPath()+" --help lists the commands", "no command of %s is given", cmd.CommandPath())
	case len(rest) == 0, rest[0] == "--", cmd == root && rest[0] == "help":
		return nil
	}
	return unknownCommand(cmd, rest[0])
}

// dissect takes arguments apart: the command that the words lead to, those
// words, the flags among them with their values, and what follows.
func dissect(root *cobra.Command, args []string) (cmd *cobra.Command, path, flags, rest []string) {
	known := knownFlags(root)
	cmd, i := root, 0
	for i < len(args) && args[i] != "--" {
		word := args[i]
		if strings.HasPrefix(word, "-") && word != "-" {
			flags = append(flags, word)
			i++
			if known[word] && i < len(args) {
				flags = append(flags, args[i])
				i++
			}
			continue
		}
		sub := child(cmd, word)
		if sub == nil {
			break
		}
		cmd, i = sub, i+1
		path = append(path, word)
	}
	return cmd, path, flags, args[i:]
}

func child(cmd *cobra.Command, word string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == word || sub.HasAlias(word) {
			return sub
		}
	}
	return nil
}

// knownFlags has every flag of a program, as it is written, and whether a value
// follows it. One name means the same everywhere in a program.
func knownFlags(root *cobra.Command) map[string]bool {
	byName := map[string]bool{}
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		for _, set := range []*pflag.FlagSet{c.LocalFlags(), c.PersistentFlags()} {
			set.VisitAll(func(f *pflag.Flag) {
				byName["--"+f.Name] = f.NoOptDefVal == ""
				if f.Shorthand != "" {
					byName["-"+f.Shorthand] = f.NoOptDefVal == ""
				}
			})
		}
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(root)
	return byName
}
