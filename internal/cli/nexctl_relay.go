package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nexd/controlapi"
	"nexd/controlclient"
)

// relayGroup shows and removes the relays of the service.
func (a *app) relayGroup() *cobra.Command {
	c := &cobra.Command{
		Use:     "relay",
		Short:   "List and delete the relays of the service",
		Example: "  nexctl relay list\n  nexctl relay delete relay-1",
	}
	c.AddCommand(a.relayList(), a.relayDelete())
	return a.group(c)
}

const relaysHint = "nexctl relay list shows the relays"

func (a *app) relayList() *cobra.Command {
	f := &adminFlags{app: a}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the relays of the service",
		Long: `List the relays of the service: its own, and those that registered (nexd relay).
LISTED says whether devices are told of it now: it was heard of lately and does not
drain. HOME OF counts the devices whose nearest relay it is.`,
		Example: "  nexctl relay list\n  nexctl relay list --output json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd.Context(), func(ctx context.Context, admin *controlclient.Admin) error {
				list, err := admin.Relays(ctx)
				if err != nil {
					return err
				}
				return a.print(f.output, orEmpty(list), func(t *tables) { relayInfoTable(t, list, time.Now()) })
			})
		},
	}
	f.register(c)
	outputFlag(c, &f.output)
	return c
}

func relayInfoTable(t *tables, list []controlapi.RelayInfo, now time.Time) {
	rows := make([][]string, 0, len(list))
	for _, r := range list {
		rows = append(rows, []string{
			r.Name, r.ID, relayKind(r), yesNo(r.Listed), relaySeen(r, now), strings.Join(r.UDP, ","), r.URL, strconv.Itoa(r.Devices), r.Version,
		})
	}
	t.table([]string{"NAME", "ID", "KIND", "LISTED", "LAST SEEN", "UDP", "URL", "HOME OF", "VERSION"}, rows)
}

func relayKind(r controlapi.RelayInfo) string {
	switch {
	case r.Embedded:
		return "embedded"
	case r.Draining:
		return "draining"
	}
	return "stand-alone"
}

// relaySeen is when a relay reported last; the service's own does not.
func relaySeen(r controlapi.RelayInfo, now time.Time) string {
	if r.Embedded {
		return "now"
	}
	return ago(r.LastSeen, now)
}

func (a *app) relayDelete() *cobra.Command {
	f := &adminFlags{app: a}
	c := &cobra.Command{
		Use:   "delete RELAY...",
		Short: "Delete stand-alone relays, by name or id",
		Long: `Delete stand-alone relays, by name or id: devices are told of the others alone, and
the relay serves nobody any more when it next asks (within half a minute). The
service's own relay stays.`,
		Example: "  nexctl relay delete relay-1\n  nexctl relay delete relay-1 relay-2",
		Args:    takesSome("RELAY"),

		ValidArgsFunction: completeFrom(0, f.relayNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd.Context(), func(ctx context.Context, admin *controlclient.Admin) error {
				for _, r := range args {
					if err := admin.DeleteRelay(ctx, r); err != nil {
						return unknown(err, relaysHint)
					}
				}
				return nil
			})
		},
	}
	f.register(c)
	return c
}

// relayNames asks the service for those that can be deleted.
func (f *adminFlags) relayNames(ctx context.Context) (names []string, err error) {
	err = f.with(ctx, func(ctx context.Context, admin *controlclient.Admin) error {
		list, err := admin.Relays(ctx)
		for _, r := range list {
			if !r.Embedded {
				names = append(names, r.Name)
			}
		}
		return err
	})
	return names, err
}
