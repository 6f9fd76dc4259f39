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
	takesValue := valueFlags(root)
	var flags, path []string
	cmd, i := root, 0
	for i < len(args) && args[i] != "--" {
		word := args[i]
		if strings.HasPrefix(word, "-") && word != "-" {
			flags = append(flags, word)
			i++
			if takesValue(word) && i < len(args) {
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
	if lead != nil && len(path) == 0 {
		flags = nil // a command is being completed; the root knows none of the flags
	}
	return slices.Concat(lead, path, flags, args[i:], tail)
}

func child(cmd *cobra.Command, word string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == word || sub.HasAlias(word) {
			return sub
		}
	}
	return nil
}

// valueFlags returns a function that says whether a flag, as it is written, is
// followed by a value. One name means the same everywhere in a program.
func valueFlags(root *cobra.Command) func(word string) bool {
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
	return func(word string) bool { return byName[word] }
}
