package cli

import (
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
	c.AddCommand(
		keptRelays.listCommand(a, &cobra.Command{
			Use:   "list",
			Short: "List the relays of the service",
			Long: `List the relays of the service: its own, and those that registered (nexd relay).
LISTED says whether devices are told of it now: it was heard of lately and does not
drain. HOME OF counts the devices whose nearest relay it is.`,
			Example: "  nexctl relay list\n  nexctl relay list --output json",
		}),
		keptRelays.deleteCommand(a, "RELAY", &cobra.Command{
			Short: "Delete stand-alone relays, by name or id",
			Long: `Delete stand-alone relays, by name or id: devices are told of the others alone, and
the relay serves nobody any more when it next asks (within half a minute). The
service's own relay stays.`,
			Example: "  nexctl relay delete relay-1\n  nexctl relay delete relay-1 relay-2",
		}),
	)
	return a.group(c)
}

var keptRelays = kept[controlapi.RelayInfo]{
	list:   (*controlclient.Admin).Relays,
	table:  relayInfoTable,
	remove: (*controlclient.Admin).DeleteRelay,
	offered: func(r controlapi.RelayInfo) string {
		if r.Embedded {
			return "" // it cannot be deleted
		}
		return r.Name
	},
	hint: "nexctl relay list shows the relays",
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
