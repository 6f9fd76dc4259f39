package cli

import (
	"context"

	"github.com/spf13/cobra"

	"nexd/localapi"
	"nexd/rules"
)

// ruleGroup lists and changes the rules of a running proxy.
func (a *app) ruleGroup() *cobra.Command {
	c := &cobra.Command{
		Use:     "proxy",
		Short:   "List and change the rules of the running proxy",
		Example: "  nexctl nexd proxy list\n  nexctl nexd proxy add --egress tcp:5432:db:5432",
	}
	c.AddCommand(a.ruleList(), a.ruleChange(true), a.ruleChange(false))
	return a.group(c)
}

func (a *app) ruleList() *cobra.Command {
	d := &daemonFlags{app: a}
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the rules with their state and traffic",
		Example: "  nexctl nexd proxy list\n  nexctl nexd proxy list --output json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := d.client()
			if err != nil {
				return err
			}
			list, err := client.Rules(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(d.output, list, func(t *tables) { ruleTable(t, list) })
		},
	}
	d.register(c)
	outputFlag(c, &d.output)
	return c
}

// ruleChange is both "add" and "remove".
func (a *app) ruleChange(add bool) *cobra.Command {
	d := &daemonFlags{app: a}
	var ingress, egress []rules.Spec
	c := &cobra.Command{
		Use:   "add",
		Short: "Add rules, at once and for good: they are kept over restarts",
		Long: `Add rules to the running proxy. All of them are added, or none. They are kept
over restarts of the daemon; nexctl nexd proxy remove takes them back.`,
		Example: "  nexctl nexd proxy add --egress tcp:5432:db:5432\n  nexctl nexd proxy add --ingress tcp:80:127.0.0.1:8080 --ingress tcp:443:127.0.0.1:8443",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return changeRules(cmd.Context(), d, add, ingress, egress)
		},
	}
	if !add {
		c.Use, c.Short = "remove", "Remove rules, at once and for good"
		c.Long = `Remove rules from the running proxy. All of them are removed, or none. New
connections are refused at once; those that are open may finish within the drain
timeout.`
		c.Example = "  nexctl nexd proxy remove --egress tcp:5432:db:5432"
	}
	c.Flags().Var(&values[rules.Spec]{dst: &ingress, kind: "RULE", parse: parseRule(rules.Ingress)}, "ingress", "rule that listens in the mesh (repeatable)")
	c.Flags().Var(&values[rules.Spec]{dst: &egress, kind: "RULE", parse: parseRule(rules.Egress)}, "egress", "rule that listens on this host (repeatable)")
	d.register(c)
	return c
}

func changeRules(ctx context.Context, d *daemonFlags, add bool, ingress, egress []rules.Spec) error {
	list := append(ingress, egress...)
	if len(list) == 0 {
		return wrong("write --ingress RULE or --egress RULE, for example --egress tcp:5432:db:5432", "no rule is given")
	}
	client, err := d.client()
	if err != nil {
		return err
	}
	_, err = change(ctx, client, add, list)
	return err
}

func change(ctx context.Context, client *localapi.Client, add bool, list []rules.Spec) ([]localapi.RuleStatus, error) {
	if add {
		return client.ChangeRules(ctx, list, nil)
	}
	return client.ChangeRules(ctx, nil, list)
}
