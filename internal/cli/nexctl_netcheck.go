package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nexd/localapi"
)

func (a *app) daemonNetcheck() *cobra.Command {
	return question(&daemonFlags{app: a}, &cobra.Command{
		Use:   "netcheck",
		Short: "Measure what this host's network lets through: UDP, NAT, port mapping, relays",
		Long: `Measure what this host's network lets through, which takes some seconds: whether
UDP works, over IPv4 and IPv6; how STUN servers see this device and what kind of
NAT (RFC 4787) that shows; whether the router forwards a port; the addresses that
peers are told; every relay with its latency, by UDP, or by TLS where that is in
use; the service and how far its clock is from ours. nexctl nexd doctor judges it.
The JSON form is described in docs/status-json.md.`,
		Example: "  nexctl nexd netcheck\n  nexctl nexd netcheck --output json",
		Args:    takes(),
	}, func(ctx context.Context, client *localapi.Client, _ []string) (localapi.Netcheck, error) {
		return client.Netcheck(ctx)
	}, showNetcheck)
}

// showNetcheck prints a netcheck for people.
func showNetcheck(t *tables, n localapi.Netcheck) {
	t.facts(append([]string{
		"UDP", fmt.Sprintf("IPv4 %s, IPv6 %s", yesNo(n.UDP.IPv4), yesNo(n.UDP.IPv6)),
		"IPv6 address", yesNo(n.IPv6),
		"NAT", withReason(n.NAT.Kind, n.NAT.Explanation),
		"Port mapping", mappingText(n.PortMapping),
		"Service", serviceText(n.Service),
		"Clock", clockText(n.Clock),
	}, offered(n.OwnCandidates)...)...)
	if len(n.STUN) > 0 {
		fmt.Fprintln(t)
		rows := make([][]string, 0, len(n.STUN))
		for _, s := range n.STUN {
			seen := "no answer"
			if s.Mapped.IsValid() {
				seen = s.Mapped.String()
			}
			rows = append(rows, []string{s.Server, seen, milliseconds(s.RTTMillis)})
		}
		t.table([]string{"STUN SERVER", "SEES US AT", "RTT"}, rows)
	}
	if len(n.Relays) > 0 {
		fmt.Fprintln(t)
		rows := make([][]string, 0, len(n.Relays))
		for _, r := range n.Relays {
			rows = append(rows, []string{r.Name, role(r.Home, r.Standby), legText(r.UDP), legText(r.TLS)})
		}
		t.table([]string{"RELAY", "ROLE", "UDP", "TLS"}, rows)
	}
}

// withReason is a word and, where there is one, what it means.
func withReason(word, reason string) string {
	if reason == "" {
		return word
	}
	return word + ": " + reason
}

func mappingText(m localapi.PortMappingCheck) string {
	switch {
	case !m.Enabled:
		return "not asked for"
	case m.External.IsValid():
		return fmt.Sprintf("%s by %s", m.External, m.Protocol)
	}
	return withReason("none", m.Error)
}

func serviceText(s localapi.ServiceCheck) string {
	parts := []string{s.URL, "not connected"}
	if s.Connected {
		parts[1] = "connected"
	}
	if rtt := milliseconds(s.RTTMillis); rtt != "" {
		parts = append(parts, rtt)
	}
	return withReason(strings.TrimPrefix(strings.Join(parts, ", "), ", "), s.Error)
}

func clockText(c localapi.ClockCheck) string {
	d := time.Duration(c.AheadMillis * float64(time.Millisecond)).Round(time.Millisecond)
	switch {
	case !c.Known:
		return "not compared"
	case d < 0:
		return d.Abs().String() + " behind the service's"
	}
	return d.String() + " ahead of the service's"
}

// legText is one way to a relay: its latency, or why there is none.
func legText(l localapi.LegCheck) string {
	switch {
	case !l.Tried:
		return ""
	case !l.OK:
		return withReason("no", l.Error)
	case l.RTTMillis <= 0:
		return "yes"
	}
	return milliseconds(l.RTTMillis)
}
