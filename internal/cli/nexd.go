package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"nexd/internal/buildinfo"
)

// nexd is the daemon's command tree.
func (a *app) nexd() *cobra.Command {
	root := &cobra.Command{
		Use:   "nexd",
		Short: "Put applications on a private WireGuard mesh",
		Long: `nexd puts applications on a private WireGuard mesh without any privilege.

One machine runs the control service (nexd serve); each of the others joins with
a registration key (nexctl reg-key create) and says which ports it offers and
which it wants to reach (nexd proxy).

A flag may stand before or after the command. Each has an environment variable,
named in brackets, and most can be written in a config file; the flag wins over
the variable, the variable over the file.`,
		Example: `  nexd serve --state-dir ./service
  nexd proxy --reg-key-file key.txt --ingress tcp:443:127.0.0.1:8080
  nexd proxy --egress tcp:5432:db:5432`,
	}
	root.AddCommand(a.proxyCommand(), a.serveCommand(), a.relayCommand(), a.discoveryCommand(), a.versionCommand("nexd"))
	return a.root(root)
}

// versionCommand prints which build this is, in both programs.
func (a *app) versionCommand(program string) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "  " + program + " version\n  " + program + " version --output json",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			return a.printBuild(program, format, buildinfo.Get())
		},
	}
	outputFlag(c, &format)
	return c
}

// printBuild prints one build.
func (a *app) printBuild(program, format string, info buildinfo.Info) error {
	return a.print(format, info, func(w *tables) {
		fmt.Fprintf(w, "%s %s\ncommit %s\n%s %s\n", program, info.Version, info.Commit, info.Go, info.Platform)
	})
}
