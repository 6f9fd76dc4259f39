package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completeTimeout is how long a shell waits for names.
const completeTimeout = 2 * time.Second

// completeFrom completes arguments with what list knows. most is how many
// arguments the command takes; 0: any number. Where nothing can be asked,
// nothing is offered.
func completeFrom(most int, list func(context.Context) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(contextOf(cmd)), completeTimeout)
		defer cancel()
		names, err := list(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// contextOf is a command's context, which one that only completes may lack.
func contextOf(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// peerNames asks the daemon.
func (d *daemonFlags) peerNames(ctx context.Context) ([]string, error) {
	client, err := d.client()
	if err != nil {
		return nil, err
	}
	st, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(st.Peers))
	for _, p := range st.Peers {
		names = append(names, p.Name)
	}
	return names, nil
}

// noFiles keeps names of files out of what they cannot be a value of.
func noFiles(c *cobra.Command) {
	if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 && !c.HasSubCommands() {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch f.Value.Type() {
		case "FILE", "DIR", "PATH", "bool":
			return
		}
		if _, has := c.GetFlagCompletionFunc(f.Name); !has {
			_ = c.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // the flag is there
		}
	})
}
