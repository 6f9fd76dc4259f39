package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"nexd/localapi"
)

// nexdGroup is everything that asks the daemon of this host.
func (a *app) nexdGroup() *cobra.Command {
	c := &cobra.Command{
		Use:     "nexd",
		Short:   "Ask and tell the daemon of this host",
		Example: "  nexctl nexd status\n  nexctl nexd wait --for ready --timeout 30s",
	}
	c.AddCommand(
		a.daemonVersion(), a.daemonStatus(), a.daemonWait(), a.daemonGet(), a.daemonSet(),
		a.ruleGroup(), a.peerGroup(), a.daemonNetcheck(), a.daemonDoctor(),
	)
	return a.group(c)
}

// with finds the daemon for do, the body of a command.
func (d *daemonFlags) with(do func(ctx context.Context, client *localapi.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		client, err := d.client()
		if err != nil {
			return err
		}
		return do(cmd.Context(), client, args)
	}
}

// question makes c ask the daemon one thing and print it: as the document it
// is, or for people.
func question[T any](d *daemonFlags, c *cobra.Command, get func(ctx context.Context, client *localapi.Client, args []string) (T, error), people func(*tables, T)) *cobra.Command {
	c.RunE = d.with(func(ctx context.Context, client *localapi.Client, args []string) error {
		doc, err := get(ctx, client, args)
		if err != nil {
			return err
		}
		return d.app.print(d.output, doc, func(t *tables) { people(t, doc) })
	})
	d.register(c)
	outputFlag(c, &d.output)
	return c
}

func (a *app) daemonVersion() *cobra.Command {
	d := &daemonFlags{app: a}
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print which build of nexd is running",
		Example: "  nexctl nexd version",
		Args:    takes(),
		RunE: d.with(func(ctx context.Context, client *localapi.Client, _ []string) error {
			info, err := client.Version(ctx)
			if err != nil {
				return err
			}
			return a.printBuild("nexd", d.output, info)
		}),
	}
	d.register(c)
	outputFlag(c, &d.output)
	return c
}

func (a *app) daemonStatus() *cobra.Command {
	return question(&daemonFlags{app: a}, &cobra.Command{
		Use:   "status",
		Short: "Print what the daemon does: device, service, relays, peers, rules",
		Long: `Print what the daemon does: device, service, relays, peers and rules.

The daemon is ready when its device is joined, its tunnel is up and every rule
listens. State offline means that the service cannot be reached while traffic
goes on. The JSON form is described in docs/status-json.md; keys are only ever
added to it.`,
		Example: "  nexctl nexd status\n  nexctl nexd status --output json",
		Args:    takes(),
	}, func(ctx context.Context, client *localapi.Client, _ []string) (localapi.Status, error) {
		return client.Status(ctx)
	}, func(t *tables, st localapi.Status) { showStatus(t, st, time.Now()) })
}

func (a *app) daemonWait() *cobra.Command {
	d := &daemonFlags{app: a}
	var cond localapi.Condition
	timeout := time.Minute
	c := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the daemon is ready, or has a direct path to a peer",
		Long: `Wait until the daemon is ready, or has a direct path to a peer. It may be
started before the daemon: it waits for it too. Nothing is printed; the exit code
is 1 when time is up.`,
		Example: "  nexctl nexd wait --for ready\n  nexctl nexd wait --for direct:db --timeout 10s",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cond.String() == "" {
				return wrong("write --for ready, or --for direct:PEER", "what to wait for is not said")
			}
			client, err := d.client()
			if err != nil {
				return err
			}
			return waitFor(cmd.Context(), client, cond, timeout)
		},
	}
	c.Flags().Var(&value[localapi.Condition]{dst: &cond, kind: "COND", parse: localapi.ParseCondition}, "for", "what to wait for: ready, or direct:PEER")
	c.Flags().Var(&value[time.Duration]{dst: &timeout, kind: "TIME", def: "1m", parse: positiveDuration}, "timeout", "how long at most")
	_ = c.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"ready", "direct:"}, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp))
	d.register(c)
	return c
}

func positiveDuration(s string) (time.Duration, error) {
	d, err := parseDuration(s)
	if err == nil && d == 0 {
		err = errors.New("want more than nothing")
	}
	return d, err
}

// waitGrace is how long the daemon may take, when time is up, to say what is missing.
const waitGrace = 5 * time.Second

// waitFor waits for the daemon to be there, too, and over its restarts.
func waitFor(ctx context.Context, client *localapi.Client, cond localapi.Condition, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(waitGrace))
	defer cancel()
	for {
		_, err := client.Wait(ctx, cond, max(time.Until(deadline), time.Millisecond))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			return failed("", "not %s in time, and the daemon does not say why", cond)
		case !mayChange(err):
			return err
		case !time.Now().Before(deadline):
			var absent *localapi.NoDaemonError
			if errors.As(err, &absent) {
				return failed(absent.Hint(), "not %s in time: %s", cond, absent.Error())
			}
			return err
		}
		select {
		case <-time.After(min(50*time.Millisecond, time.Until(deadline))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mayChange reports whether a wait that ended with err is worth another: there is
// no daemon, it ends or is busy, or it waits no longer at a time.
func mayChange(err error) bool {
	var absent *localapi.NoDaemonError
	var p *localapi.Problem
	return errors.As(err, &absent) ||
		errors.As(err, &p) && (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusGatewayTimeout)
}

func (a *app) daemonGet() *cobra.Command {
	c := &cobra.Command{
		Use:     "get",
		Short:   "Print one fact of the daemon",
		Example: "  nexctl nexd get tunnelip",
	}
	d := &daemonFlags{app: a}
	var six bool
	ip := &cobra.Command{
		Use:     "tunnelip",
		Short:   "Print this device's address in the mesh",
		Example: "  nexctl nexd get tunnelip\n  nexctl nexd get tunnelip --ipv6",
		Args:    takes(),
		RunE: d.with(func(ctx context.Context, client *localapi.Client, _ []string) error {
			st, err := client.Status(ctx)
			if err != nil {
				return err
			}
			addr, ok := addressOf(st.Device.Addresses, six)
			if !ok {
				return failed("nexctl nexd wait --for ready waits for one", "this device has no such address yet: its state is %s", st.State)
			}
			_, err = fmt.Fprintln(a.Out, addr)
			return err
		}),
	}
	ip.Flags().BoolVar(&six, "ipv6", false, "the IPv6 address")
	d.register(ip)
	c.AddCommand(ip)
	return a.group(c)
}

// addressOf picks the address of a family.
func addressOf(list []netip.Addr, six bool) (netip.Addr, bool) {
	for _, a := range list {
		if a.Is6() == six {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (a *app) daemonSet() *cobra.Command {
	c := &cobra.Command{
		Use:     "set",
		Short:   "Change one thing of the daemon",
		Example: "  nexctl nexd set log-level debug",
	}
	d := &daemonFlags{app: a}
	level := &cobra.Command{
		Use:       "log-level LEVEL",
		Short:     "Change the log level until the daemon ends: debug, info, warn or error",
		Example:   "  nexctl nexd set log-level debug",
		Args:      takes("LEVEL"),
		ValidArgs: levels,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := parseLevel(args[0])
			if err != nil {
				return wrong("", "log level %q: %v", args[0], err)
			}
			client, err := d.client()
			if err != nil {
				return err
			}
			return client.SetLogLevel(cmd.Context(), levelName(l))
		},
	}
	d.register(level)
	c.AddCommand(level)
	return a.group(c)
}

// levelName is the inverse of parseLevel.
func levelName(l slog.Level) string { return levels[(l-slog.LevelDebug)/4] }
