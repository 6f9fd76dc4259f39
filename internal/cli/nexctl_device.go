package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nexd/controlapi"
	"nexd/controlclient"
)

// deviceGroup shows and changes the members of the mesh.
func (a *app) deviceGroup() *cobra.Command {
	c := &cobra.Command{
		Use:     "device",
		Short:   "List, show, change and delete the devices of the mesh",
		Example: "  nexctl device list\n  nexctl device delete db",
	}
	c.AddCommand(
		keptDevices.listCommand(a, &cobra.Command{
			Use:     "list",
			Short:   "List the devices of the mesh",
			Example: "  nexctl device list\n  nexctl device list --output json",
		}),
		a.deviceShow(),
		a.deviceUpdate(),
		keptDevices.deleteCommand(a, "DEVICE", &cobra.Command{
			Short:   "Delete devices: they are out of the mesh within a second",
			Example: "  nexctl device delete db\n  nexctl device delete web-1 web-2",
		}),
	)
	return a.group(c)
}

var keptDevices = kept[controlapi.DeviceInfo]{
	list:    (*controlclient.Admin).Devices,
	table:   deviceTable,
	remove:  (*controlclient.Admin).DeleteDevice,
	offered: func(d controlapi.DeviceInfo) string { return d.Name },
	hint:    "nexctl device list shows the devices",
}

// unknown gives the service's "not found" a hint, and the exit code of a failure.
func unknown(err error, hint string) error {
	var p *controlapi.Problem
	if errors.As(err, &p) && p.Code == controlapi.CodeNotFound && p.Hint == "" {
		return failed(hint, "%v", err)
	}
	return err
}

func deviceTable(t *tables, list []controlapi.DeviceInfo, now time.Time) {
	rows := make([][]string, 0, len(list))
	for _, d := range list {
		rows = append(rows, []string{
			d.Name, d.ID, addresses(d.Addresses), yesNo(d.Connected), seen(d, now), strings.Join(d.Tags, ","), yesNo(d.Ephemeral), d.Version,
		})
	}
	t.table([]string{"NAME", "ID", "ADDRESSES", "CONNECTED", "LAST SEEN", "TAGS", "EPHEMERAL", "VERSION"}, rows)
}

// seen is when a device was last connected.
func seen(d controlapi.DeviceInfo, now time.Time) string {
	if d.Connected {
		return "now"
	}
	return ago(d.LastSeen, now)
}

func (a *app) deviceShow() *cobra.Command {
	f := &adminFlags{app: a}
	c := &cobra.Command{
		Use:     "show DEVICE",
		Short:   "Show one device, by name or id",
		Example: "  nexctl device show db",
		Args:    takes("DEVICE"),

		ValidArgsFunction: completeFrom(1, keptDevices.names(f)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd.Context(), func(ctx context.Context, admin *controlclient.Admin) error {
				d, err := admin.Device(ctx, args[0])
				if err != nil {
					return unknown(err, keptDevices.hint)
				}
				return a.printDevice(f.output, d)
			})
		},
	}
	f.register(c)
	outputFlag(c, &f.output)
	return c
}

func (a *app) printDevice(format string, d controlapi.DeviceInfo) error {
	now := time.Now()
	return a.print(format, d, func(t *tables) {
		t.facts(
			"Name", d.Name,
			"ID", d.ID,
			"Addresses", addresses(d.Addresses),
			"Public key", d.PublicKey.String(),
			"Connected", yesNo(d.Connected),
			"Last seen", seen(d, now),
			"Created", ago(d.Created, now),
			"Tags", strings.Join(d.Tags, ","),
			"Ephemeral", yesNo(d.Ephemeral),
			"Registration key", d.RegKeyID,
			"Version", d.Version,
			"System", d.OS,
		)
	})
}

func (a *app) deviceUpdate() *cobra.Command {
	f := &adminFlags{app: a}
	var (
		name string
		tags []string
		none bool
	)
	c := &cobra.Command{
		Use:     "update DEVICE",
		Short:   "Change a device's name or tags",
		Example: "  nexctl device update db --name db-1\n  nexctl device update db --tag prod --tag sql\n  nexctl device update db --no-tags",
		Args:    takes("DEVICE"),

		ValidArgsFunction: completeFrom(1, keptDevices.names(f)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var change controlapi.DeviceUpdate
			switch {
			case none && len(tags) > 0:
				return wrong("give one of them", "--tag and --no-tags contradict each other")
			case none:
				change.Tags = &[]string{}
			case len(tags) > 0:
				change.Tags = &tags
			}
			if name != "" {
				change.Name = &name
			}
			if change == (controlapi.DeviceUpdate{}) {
				return wrong("write --name NAME, --tag NAME or --no-tags", "what to change is not said")
			}
			return f.with(cmd.Context(), func(ctx context.Context, admin *controlclient.Admin) error {
				d, err := admin.UpdateDevice(ctx, args[0], change)
				var taken *controlapi.Problem
				if errors.As(err, &taken) && taken.Code == controlapi.CodeNameTaken { // its hint is for who joins
					return failed("choose another --name, or delete that device", "%v", err)
				}
				if err != nil {
					return unknown(err, keptDevices.hint)
				}
				return a.printDevice(f.output, d)
			})
		},
	}
	c.Flags().Var(&value[string]{dst: &name, kind: "NAME", parse: parseName}, "name", "new name of the device")
	c.Flags().Var(&values[string]{dst: &tags, kind: "NAME", parse: parseTag}, "tag", "tags of the device, in place of those it has (repeatable)")
	c.Flags().BoolVar(&none, "no-tags", false, "take all its tags away")
	f.register(c)
	outputFlag(c, &f.output)
	return c
}

func parseName(s string) (string, error) {
	if controlapi.CheckName(s) != nil {
		return "", fmt.Errorf("want lower-case letters, digits and inner hyphens, at most 63")
	}
	return s, nil
}
