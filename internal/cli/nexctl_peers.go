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
		Short:   "List the other devices of the mesh, and ping one",
		Example: "  nexctl nexd peers list\n  nexctl nexd peers ping db",
	}
	c.AddCommand(a.peerList(), a.peerPing())
	return a.group(c)
}

func (a *app) peerList() *cobra.Command {
	d := &daemonFlags{app: a}
	c := &cobra.Command{
		Use:     "list",
		Short:   "List peers with their addresses, path, handshake and traffic",
		Example: "  nexctl nexd peers list\n  nexctl nexd peers list --output no-header",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := d.client()
			if err != nil {
				return err
			}
			st, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(d.output, st.Peers, func(t *tables) { peerTable(t, st.Peers, time.Now()) })
		},
	}
	d.register(c)
	outputFlag(c, &d.output)
	return c
}

func (a *app) peerPing() *cobra.Command {
	d := &daemonFlags{app: a}
	count, timeout := 3, localapi.DefaultPingTimeout
	c := &cobra.Command{
		Use:   "ping PEER",
		Short: "Send echo requests through the tunnel to a peer: name, id, address or public key",
		Long: `Send echo requests through the tunnel to a peer, one a second, and print for each
answer how long it took and which path it came by. The exit code is 0 when at
least one was answered.`,
		Example: "  nexctl nexd peers ping db\n  nexctl nexd peers ping 100.64.0.2 -c 1",
		Args:    takes("PEER"),

		ValidArgsFunction: completeFrom(1, d.peerNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := d.client()
			if err != nil {
				return err
			}
			return a.pingPeer(cmd.Context(), client, args[0], count, timeout)
		},
	}
	c.Flags().VarP(&value[int]{dst: &count, kind: "N", def: "3", parse: positiveCount}, "count", "c", "how many requests")
	c.Flags().Var(&value[time.Duration]{dst: &timeout, kind: "TIME", def: "5s", parse: pingTimeout}, "timeout", "how long to wait for each answer")
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

// pingPeer sends count requests, a second apart.
func (a *app) pingPeer(ctx context.Context, client *localapi.Client, peer string, count int, timeout time.Duration) error {
	answered := 0
	for i := range count {
		next := time.After(time.Second)
		r, err := client.Ping(ctx, peer, timeout)
		var lost *localapi.Problem
		switch {
		case err == nil:
			answered++
			fmt.Fprintf(a.Out, "reply from %s (%s): %.2f ms, %s\n", r.Peer, r.Address, r.Millis, pathText(r.Path))
		case errors.As(err, &lost):
			fmt.Fprintln(a.Out, lost.Message)
		default:
			e := explain(err) // an unknown peer is no malformed request
			return failed(e.Hint, "%s", e.Message)
		}
		if i == count-1 {
			break
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fmt.Fprintf(a.Out, "%d sent, %d answered\n", count, answered)
	if answered == 0 {
		return failed("nexctl nexd status shows the path to it", "%s did not answer", peer)
	}
	return nil
}

// pathText is a path in a few words.
func pathText(p localapi.PathStatus) string {
	via := p.Endpoint
	if p.Kind == localapi.PathRelay {
		via = p.Relay
	}
	return strings.TrimSpace(p.Kind + " " + via)
}
