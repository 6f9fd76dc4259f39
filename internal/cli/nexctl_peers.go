package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nexd/localapi"
)

// peerGroup asks about the other members.
func (a *app) peerGroup() *cobra.Command {
	c := &cobra.Command{
		Use:     "peers",
		Short:   "List the other devices of the mesh, ping one, and see how it is reached",
		Example: "  nexctl nexd peers list\n  nexctl nexd peers ping db\n  nexctl nexd peers trace db",
	}
	c.AddCommand(a.peerList(), a.peerPing(), a.peerTrace())
	return a.group(c)
}

func (a *app) peerList() *cobra.Command {
	return question(&daemonFlags{app: a}, &cobra.Command{
		Use:   "list",
		Short: "List peers with their addresses, path, handshake and traffic",
		Long: `List peers with their addresses, path, handshake and traffic. The path is
direct, with the address packets go to; or relay, with the relay's name and how
this device reaches it; or none: nobody talks to the peer, or no path was found.`,
		Example: "  nexctl nexd peers list\n  nexctl nexd peers list --output no-header",
		Args:    takes(),
	}, func(ctx context.Context, client *localapi.Client, _ []string) ([]localapi.PeerStatus, error) {
		st, err := client.Status(ctx)
		return st.Peers, err
	}, func(t *tables, peers []localapi.PeerStatus) { peerTable(t, peers, time.Now()) })
}

func (a *app) peerPing() *cobra.Command {
	d := &daemonFlags{app: a}
	p := pinger{app: a, count: 3, timeout: localapi.DefaultPingTimeout}
	c := &cobra.Command{
		Use:   "ping PEER",
		Short: "Send echo requests through the tunnel to a peer: name, id, address or public key",
		Long: `Send echo requests through the tunnel to a peer, one a second, and print for each
answer how long it took and which path it came by: direct ADDRESS, or relay NAME
and how this device reaches it. The exit code is 0 when at least one was answered.

With --until-direct it ends at the first answer by a direct path; the exit code
is 1 when there was none.`,
		Example: "  nexctl nexd peers ping db\n  nexctl nexd peers ping 100.64.0.2 -c 1\n  nexctl nexd peers ping db --until-direct -c 20",
		Args:    takes("PEER"),

		ValidArgsFunction: completeFrom(1, d.peerNames),
		RunE: d.with(func(ctx context.Context, client *localapi.Client, args []string) error {
			return p.run(ctx, client, args[0])
		}),
	}
	c.Flags().VarP(&value[int]{dst: &p.count, kind: "N", def: "3", parse: positiveCount}, "count", "c", "how many requests at most")
	c.Flags().Var(&value[time.Duration]{dst: &p.timeout, kind: "TIME", def: "5s", parse: pingTimeout}, "timeout", "how long to wait for each answer")
	c.Flags().BoolVar(&p.untilDirect, "until-direct", false, "end when the path is direct")
	d.register(c)
	return c
}

func positiveCount(s string) (int, error) {
	n, err := parseCount(s)
	if err == nil && n == 0 {
		err = errors.New("want 1 or more")
	}
	return n, err
}

func pingTimeout(s string) (time.Duration, error) {
	d, err := positiveDuration(s)
	if err == nil && d > localapi.MaxPingTimeout {
		err = fmt.Errorf("want at most %s", localapi.MaxPingTimeout)
	}
	return d, err
}

// pinger sends count requests at most, a second apart.
type pinger struct {
	app         *app
	count       int
	timeout     time.Duration
	untilDirect bool
}

func (p *pinger) run(ctx context.Context, client *localapi.Client, peer string) error {
	sent, answered := 0, 0
	path := localapi.PathStatus{Kind: localapi.PathNone}
	for sent < p.count {
		next := time.After(time.Second)
		r, err := client.Ping(ctx, peer, p.timeout)
		sent++
		var lost *localapi.Problem
		switch {
		case err == nil:
			answered++
			path = r.Path
			fmt.Fprintf(p.app.Out, "reply from %s (%s): %.2f ms, %s\n", printable(r.Peer), r.Address, r.Millis, printable(pathText(r.Path)))
		case errors.As(err, &lost):
			fmt.Fprintln(p.app.Out, printable(lost.Message))
		default:
			e := explain(err) // an unknown peer is no malformed request
			return failed(e.Hint, "%s", e.Message)
		}
		if sent == p.count || p.untilDirect && path.Kind == localapi.PathDirect {
			break
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fmt.Fprintf(p.app.Out, "%d sent, %d answered\n", sent, answered)
	switch {
	case answered == 0:
		return failed("nexctl nexd doctor says why", "%s did not answer", peer)
	case p.untilDirect && path.Kind != localapi.PathDirect:
		return failed("nexctl nexd doctor says why, nexctl nexd peers trace what was tried", "the path to %s is %s", peer, printable(pathText(path)))
	}
	return nil
}

func (a *app) peerTrace() *cobra.Command {
	d := &daemonFlags{app: a}
	return question(d, &cobra.Command{
		Use:   "trace PEER",
		Short: "Print how packets reach a peer, what else was tried, and what happened lately",
		Long: `Print how packets reach a peer: the path and what is kept beside it, every
candidate with its checks, and the events of late. The peer is named by its name,
id, address or public key. Nothing is sent: nexctl nexd peers ping makes the
daemon look for a path where it has none. The JSON form is described in
docs/status-json.md.`,
		Example: "  nexctl nexd peers trace db\n  nexctl nexd peers trace db --output json",
		Args:    takes("PEER"),

		ValidArgsFunction: completeFrom(1, d.peerNames),
	}, func(ctx context.Context, client *localapi.Client, args []string) (localapi.Trace, error) {
		tr, err := client.Trace(ctx, args[0])
		var unknown *localapi.UserError
		if errors.As(err, &unknown) { // an unknown peer is no malformed request
			err = failed(unknown.Hint, "%s", unknown.Message)
		}
		return tr, err
	}, func(t *tables, tr localapi.Trace) { showTrace(t, tr, time.Now()) })
}

// showTrace prints a trace for people.
func showTrace(t *tables, tr localapi.Trace, now time.Time) {
	state := tr.State
	if !tr.Since.IsZero() {
		state += " for " + span(now.Sub(tr.Since))
	}
	path := pathFacts(tr.Path)
	if tr.Both {
		path += "; packets go by the spare path, too"
	}
	rounds := fmt.Sprint(tr.Rounds.Count)
	if !tr.Rounds.Next.IsZero() {
		rounds += ", the next " + until(tr.Rounds.Next, now)
	}
	pairs := []string{
		"Peer", tr.Peer.Name,
		"Addresses", addresses(tr.Peer.Addresses),
		"Public key", tr.Peer.PublicKey.String(),
		"State", state,
		"Path", path,
		"Spare", pathFacts(tr.Spare),
		"MTU", mtuText(tr.MTU),
		"Rounds", rounds,
		"Its NAT", tr.PeerNAT,
		"Its relays", relayNames(tr.PeerRelays),
	}
	t.facts(append(pairs, offered(tr.OwnCandidates)...)...)
	if len(tr.Candidates) > 0 {
		fmt.Fprintln(t)
		candidateTable(t, tr, now)
	}
	if len(tr.History) > 0 {
		fmt.Fprintln(t)
		rows := make([][]string, 0, len(tr.History))
		for _, e := range tr.History {
			rows = append(rows, []string{e.At.UTC().Format("2006-01-02T15:04:05.000Z"), e.Text})
		}
		t.table([]string{"TIME", "EVENT"}, rows)
	}
}

func candidateTable(t *tables, tr localapi.Trace, now time.Time) {
	rows := make([][]string, 0, len(tr.Candidates))
	for _, c := range tr.Candidates {
		at := c.Address
		if c.Relay != "" {
			at = c.Relay
		}
		rows = append(rows, []string{
			at, c.Kind, c.State, milliseconds(c.RTTMillis),
			fmt.Sprint(c.Checks), ago(c.LastSent, now), fmt.Sprint(c.Answers), ago(c.LastAnswer, now),
		})
	}
	t.table([]string{"CANDIDATE", "KIND", "STATE", "RTT", "CHECKS", "LAST CHECK", "ANSWERS", "LAST ANSWER"}, rows)
	if tr.Omitted > 0 {
		fmt.Fprintf(t, "and %d more\n", tr.Omitted)
	}
}

func relayNames(list []localapi.RelayName) string {
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.Name
	}
	return strings.Join(names, ", ")
}

// offered lists our own candidates, one a line, as facts.
func offered(list []localapi.OwnCandidate) []string {
	pairs := []string{"Offered", ""}
	for i, c := range list {
		text := fmt.Sprintf("%s (%s)", c.Address, c.Kind)
		if i == 0 {
			pairs[1] = text
		} else {
			pairs = append(pairs, "", text)
		}
	}
	return pairs
}
