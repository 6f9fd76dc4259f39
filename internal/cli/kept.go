package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"nexd/controlclient"
)

// kept is a kind of thing that the service keeps many of (devices, registration
// keys, relays), for the commands that are the same for each kind.
type kept[T any] struct {
	list  func(*controlclient.Admin, context.Context) ([]T, error)
	table func(*tables, []T, time.Time)
	// remove deletes one by the word that names it.
	remove func(*controlclient.Admin, context.Context, string) error
	// offered is the word that names one, for the shell; empty: it is not offered.
	offered func(T) string
	hint    string // for a word that names none
}

// listCommand completes c, which prints them all.
func (k kept[T]) listCommand(a *app, c *cobra.Command) *cobra.Command {
	f := &adminFlags{app: a}
	c.Args = takes()
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd.Context(), func(ctx context.Context, admin *controlclient.Admin) error {
			list, err := k.list(admin, ctx)
			if err != nil {
				return err
			}
			return a.print(f.output, orEmpty(list), func(t *tables) { k.table(t, list, time.Now()) })
		})
	}
	f.register(c)
	outputFlag(c, &f.output)
	return c
}

// deleteCommand completes c, which deletes those that are named, word by word.
func (k kept[T]) deleteCommand(a *app, word string, c *cobra.Command) *cobra.Command {
	f := &adminFlags{app: a}
	c.Use = "delete " + word + "..."
	c.Args = takesSome(word)
	c.ValidArgsFunction = completeFrom(0, k.names(f))
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd.Context(), func(ctx context.Context, admin *controlclient.Admin) error {
			for _, one := range args {
				if err := k.remove(admin, ctx, one); err != nil {
					return unknown(err, k.hint)
				}
			}
			return nil
		})
	}
	f.register(c)
	return c
}

// names asks the service for the words a shell may offer.
func (k kept[T]) names(f *adminFlags) func(context.Context) ([]string, error) {
	return func(ctx context.Context) (names []string, err error) {
		err = f.with(ctx, func(ctx context.Context, admin *controlclient.Admin) error {
			list, err := k.list(admin, ctx)
			for _, one := range list {
				if name := k.offered(one); name != "" {
					names = append(names, name)
				}
			}
			return err
		})
		return names, err
	}
}

// orEmpty makes a list print as [] where it has nothing.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
