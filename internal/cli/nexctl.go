package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nexd/localapi"
)

// nexctl is the control program's command tree.
func (a *app) nexctl() *cobra.Command {
	root := &cobra.Command{
		Use:   "nexctl",
		Short: "Ask and tell the nexd daemon of this host, and the control service",
		Long: `nexctl asks and tells the nexd daemon of this host (nexctl nexd ...) and the
control service (the other commands). A flag may stand before or after the
command.`,
		Example: `  nexctl nexd status
  nexctl nexd proxy add --egress tcp:5432:db:5432
  nexctl reg-key create --expires 24h`,
	}
	root.AddCommand(a.nexdGroup(), a.regKeyGroup(), a.deviceGroup(), a.relayGroup(), a.versionCommand("nexctl"))
	return a.root(root)
}

// daemonFlags finds the daemon's socket.
type daemonFlags struct {
	app    *app
	socket string
	output string
}

// register adds --unix-socket to a command that asks the daemon.
func (d *daemonFlags) register(c *cobra.Command) {
	c.Flags().VarPF(&pathFlag{value: &d.socket}, "unix-socket", "", "the daemon's socket; default: found as the daemon chose it [NEXD_UNIX_SOCKET]")
}

// client returns a client of the daemon.
func (d *daemonFlags) client() (*localapi.Client, error) {
	path := d.socket
	if path == "" {
		path = d.app.env("NEXD_UNIX_SOCKET")
	}
	if path == "" {
		path = d.app.places().clientSocket()
	}
	if path == "" {
		return nil, wrong("name it with --unix-socket PATH or NEXD_UNIX_SOCKET", "where the daemon's socket is cannot be guessed")
	}
	if err := localapi.CheckSocketPath(path); err != nil {
		return nil, err
	}
	return localapi.NewClient(path), nil
}

// pathFlag is the name of a file, which is never empty.
type pathFlag struct{ value *string }

var _ pflag.Value = (*pathFlag)(nil)

func (p *pathFlag) String() string {
	if p.value == nil {
		return ""
	}
	return *p.value
}
func (p *pathFlag) Type() string { return "PATH" }
func (p *pathFlag) Set(s string) (err error) {
	*p.value, err = parseText(s)
	return err
}

// value is a flag of a client's command: parsed at once, never remembered.
type value[T any] struct {
	dst   *T
	kind  string
	def   string
	parse func(string) (T, error)
}

func (v *value[T]) String() string { return v.def }
func (v *value[T]) Type() string   { return v.kind }
func (v *value[T]) Set(s string) (err error) {
	*v.dst, err = v.parse(s)
	return err
}

// values is a flag that may be repeated.
type values[T any] struct {
	dst   *[]T
	kind  string
	parse func(string) (T, error)
}

func (v *values[T]) String() string { return "" }
func (v *values[T]) Type() string   { return v.kind }
func (v *values[T]) Set(s string) error {
	x, err := v.parse(s)
	if err == nil {
		*v.dst = append(*v.dst, x)
	}
	return err
}
