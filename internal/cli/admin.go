package cli

import (
	"context"

	"github.com/spf13/cobra"

	"nexd/controlclient"
)

// adminFlags finds the service and the right to administer it.
type adminFlags struct {
	app    *app
	file   string
	ca     string
	output string
}

func (f *adminFlags) register(c *cobra.Command) {
	c.Flags().VarPF(&pathFlag{value: &f.file}, "admin-file", "", "admin.json of the service; default: in the state directory nexd serve uses [NEXCTL_ADMIN_FILE]")
	c.Flags().VarPF(&pathFlag{value: &f.ca}, "ca-file", "", "further authorities for the service's certificate, PEM [NEXD_CA_FILE]")
}

// with runs do with a client of the service.
func (f *adminFlags) with(ctx context.Context, do func(context.Context, *controlclient.Admin) error) error {
	path := f.file
	if path == "" {
		path = f.app.env("NEXCTL_ADMIN_FILE")
	}
	if path == "" {
		path = f.app.places().adminFile()
	}
	if path == "" {
		return wrong("name it with --admin-file PATH or NEXCTL_ADMIN_FILE", "where the service's admin file is cannot be guessed")
	}
	file, err := controlclient.ReadAdminFile(path)
	if err != nil {
		return failed("name it with --admin-file PATH or NEXCTL_ADMIN_FILE", "%v", err)
	}
	ca := f.ca
	if ca == "" {
		ca = f.app.env("NEXD_CA_FILE")
	}
	admin, err := controlclient.NewAdmin(file, controlclient.Config{CAFile: ca})
	if err != nil {
		return err
	}
	defer admin.Close()
	return do(ctx, admin)
}
