package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nexd/controlapi"
	"nexd/controlclient"
)

// regKeyGroup makes and voids registration keys.
func (a *app) regKeyGroup() *cobra.Command {
	c := &cobra.Command{
		Use:     "reg-key",
		Short:   "Make, list and delete registration keys",
		Example: "  nexctl reg-key create --single-use --expires 1h\n  nexctl reg-key list",
	}
	c.AddCommand(
		a.regKeyCreate(),
		keptKeys.listCommand(a, &cobra.Command{
			Use:     "list",
			Short:   "List registration keys, without their secrets",
			Example: "  nexctl reg-key list\n  nexctl reg-key list --output json",
		}),
		keptKeys.deleteCommand(a, "ID", &cobra.Command{
			Short:   "Make registration keys useless; devices that joined with them stay",
			Example: "  nexctl reg-key delete key_3uhmrd3v",
		}),
	)
	return a.group(c)
}

var keptKeys = kept[controlapi.RegKeyInfo]{
	list:   (*controlclient.Admin).RegKeys,
	table:  regKeyTable,
	remove: (*controlclient.Admin).DeleteRegKey,
	offered: func(k controlapi.RegKeyInfo) string { // its description goes with it
		return cobra.CompletionWithDesc(k.ID, printable(k.Description))
	},
	hint: "nexctl reg-key list shows the keys",
}

func (a *app) regKeyCreate() *cobra.Command {
	f := &adminFlags{app: a}
	var (
		req     controlapi.RegKeyRequest
		expires time.Duration
		relay   bool
	)
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a registration key and print it, alone",
		Long: `Make a registration key and print it, alone, on standard output. It is shown this
once: the service keeps only a hash. A device needs it once; when it expires or is
deleted, devices that joined with it stay. With --relay it is for nexd relay, and no
device can join with it.`,
		Example: `  nexctl reg-key create
  nexctl reg-key create --single-use --expires 1h --description "db server"
  nexctl reg-key create --ephemeral --reclaim --tag web > key.txt
  nexctl reg-key create --relay --single-use --expires 1h > relay-key.txt`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if relay {
				if err := checkRelayKey(req); err != nil {
					return err
				}
				req.Role = controlapi.RoleRelay
			}
			req.ExpiresIn = int64(expires / time.Second)
			return f.with(cmd.Context(), func(ctx context.Context, admin *controlclient.Admin) error {
				key, err := admin.CreateRegKey(ctx, req)
				if err != nil {
					return err
				}
				return a.print(f.output, key, func(t *tables) { fmt.Fprintln(t, key.Key) })
			})
		},
	}
	fs := c.Flags()
	fs.BoolVar(&req.Ephemeral, "ephemeral", false, "devices that join with it leave when they stop")
	fs.BoolVar(&req.SingleUse, "single-use", false, "one device can join with it")
	fs.BoolVar(&req.Reclaim, "reclaim", false, "a device that lost its state takes its name and addresses back while the old one is not connected")
	fs.BoolVar(&relay, "relay", false, "it is for stand-alone relays (nexd relay), not for devices")
	fs.Var(&value[time.Duration]{dst: &expires, kind: "TIME", parse: wholeSeconds}, "expires", "how long it can be used, such as 24h or 7d; default: for ever")
	fs.Var(&values[string]{dst: &req.Tags, kind: "NAME", parse: parseTag}, "tag", "tag of devices that join with it (repeatable)")
	fs.Var(&value[string]{dst: &req.Description, kind: "TEXT", parse: parseDescription}, "description", "what it is for")
	f.register(c)
	outputFlag(c, &f.output)
	return c
}

// checkRelayKey refuses what says something of devices.
func checkRelayKey(req controlapi.RegKeyRequest) error {
	for _, w := range []struct {
		is   bool
		flag string
	}{{req.Ephemeral, "--ephemeral"}, {req.Reclaim, "--reclaim"}, {len(req.Tags) > 0, "--tag"}} {
		if w.is {
			return wrong("leave one of them out", "--relay and %s contradict each other: a key for relays lets no device join", w.flag)
		}
	}
	return nil
}

func wholeSeconds(s string) (time.Duration, error) {
	d, err := positiveDuration(s)
	if err == nil && d < time.Second {
		err = fmt.Errorf("want a second or more")
	}
	return d, err
}

func parseTag(s string) (string, error) {
	if controlapi.CheckName(s) != nil {
		return "", fmt.Errorf("want lower-case letters, digits and inner hyphens, at most 63")
	}
	return s, nil
}

func parseDescription(s string) (string, error) {
	if len(s) > 256 {
		return "", fmt.Errorf("want at most 256 bytes")
	}
	return s, nil
}

func regKeyTable(t *tables, keys []controlapi.RegKeyInfo, now time.Time) {
	rows := make([][]string, 0, len(keys))
	for _, k := range keys {
		var kind []string
		for _, w := range []struct {
			is   bool
			word string
		}{{k.Role == controlapi.RoleRelay, "relay"}, {k.SingleUse, "single-use"}, {k.Ephemeral, "ephemeral"}, {k.Reclaim, "reclaim"}} {
			if w.is {
				kind = append(kind, w.word)
			}
		}
		rows = append(rows, []string{
			k.ID, strings.Join(kind, ","), strings.Join(k.Tags, ","), ago(k.Created, now), until(k.Expires, now),
			strconv.Itoa(k.Uses), ago(k.LastUsed, now), k.Description,
		})
	}
	t.table([]string{"ID", "KIND", "TAGS", "CREATED", "EXPIRES", "USES", "LAST USED", "DESCRIPTION"}, rows)
}
