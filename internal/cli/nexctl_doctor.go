package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"nexd/localapi"
)

// doctorExitCodes stand in the help of doctor.
const doctorExitCodes = `  0  nothing is wrong, or it works and could work better
  1  a problem was found, or the daemon could not be asked
  2  the request was wrong, and nothing was changed`

func (a *app) daemonDoctor() *cobra.Command {
	d := &daemonFlags{app: a}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong, why each path is direct or relayed, and what to do",
		Long: `Say what is wrong with the daemon, its service, its network and its relays; why
the path to each peer is direct or relayed; and what would make it direct. Each
finding is a line: ok, note, warning (it works, and could work better) or problem,
and below it what to do; any one of several such lines helps. Nothing is said that
was not measured. The JSON form is described in docs/status-json.md.`,
		Example:     "  nexctl nexd doctor\n  nexctl nexd doctor --output json",
		Args:        takes(),
		Annotations: map[string]string{"exit": doctorExitCodes},
		RunE: d.with(func(ctx context.Context, client *localapi.Client, _ []string) error {
			doc, err := client.Doctor(ctx)
			if err == nil {
				err = a.print(d.output, doc, func(t *tables) { showDoctor(t, doc) })
			}
			if err == nil && !doc.OK {
				err = &Error{Code: exitFailed, Shown: true}
			}
			return err
		}),
	}
	d.register(c)
	outputFlag(c, &d.output)
	return c
}

// showDoctor prints a doctor's report for people: the findings, then the peers
// that no finding speaks of.
func showDoctor(t *tables, d localapi.Doctor) {
	var rows [][]string
	for _, f := range d.Findings {
		rows = append(rows, []string{f.Level, f.Subject, f.Text})
		for _, advice := range advices(d.Peers, f) {
			rows = append(rows, []string{" ", " ", "-> " + advice})
		}
	}
	t.table([]string{"LEVEL", "SUBJECT", "FINDING"}, rows)
	rows, idle := nil, 0
	for _, p := range d.Peers {
		switch {
		case slices.ContainsFunc(d.Findings, func(f localapi.Finding) bool { return speaksOf(f, p) }):
		case p.Idle:
			idle++
		default:
			rows = append(rows, []string{p.Name, p.PathKind, p.Why})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(t)
		t.table([]string{"PEER", "PATH", "WHY"}, rows)
	}
	if idle > 0 && t.header {
		fmt.Fprintf(t, "\nnobody talks to %s\n", counted(idle, "other peer"))
	}
	if d.Omitted > 0 && t.header {
		fmt.Fprintf(t, "%s not shown\n", counted(d.Omitted, "peer"))
	}
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// advices is what to do about a finding; of a peer, all that would help.
func advices(peers []localapi.PeerFinding, f localapi.Finding) []string {
	for _, p := range peers {
		if speaksOf(f, p) && slices.Contains(p.Direct, f.Advice) {
			return p.Direct
		}
	}
	if f.Advice == "" {
		return nil
	}
	return []string{f.Advice}
}

// speaksOf: a peer may be called "relay", so the name alone does not tell.
func speaksOf(f localapi.Finding, p localapi.PeerFinding) bool {
	return f.Subject == p.Name && f.Text == p.Why
}
