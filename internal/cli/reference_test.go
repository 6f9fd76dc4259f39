package cli

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

func TestReferenceEqualsHelp(t *testing.T) {
	const page = "../../docs/cli.md"
	want := Reference()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/cli.md is not what the commands say: go test ./internal/cli -update")
	}
}

// TestStatusPageHasTheGoldenDocument keeps docs/status-json.md true.
func TestStatusPageHasTheGoldenDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/status-json.md")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("../../localapi/testdata/status_full.json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```json\n"+strings.TrimSpace(string(golden))+"\n```") {
		t.Error("docs/status-json.md shows another document than localapi/testdata/status_full.json")
	}
}

// commands returns every visible command of both programs.
func commands() []*cobra.Command {
	a := &app{env: func(string) string { return "" }}
	var all []*cobra.Command
	for _, root := range []*cobra.Command{a.nexd(), a.nexctl()} {
		visible(root, func(c *cobra.Command) { all = append(all, c) })
	}
	return all
}

func TestEveryCommandHasExampleAndExitCodes(t *testing.T) {
	for _, c := range commands() {
		if c.Short == "" || c.Example == "" || c.Annotations["exit"] == "" {
			t.Errorf("%s: short %q, example %q, exit codes %q", c.CommandPath(), c.Short, c.Example, c.Annotations["exit"])
		}
		if !strings.Contains(c.Example, c.CommandPath()) && !strings.Contains(c.Example, c.Root().Name()) {
			t.Errorf("%s: its example does not use it", c.CommandPath())
		}
	}
}

// TestFlagsMeanTheSameEverywhere is what moving flags before the command needs:
// within a program a name either always takes a value or never does.
func TestFlagsMeanTheSameEverywhere(t *testing.T) {
	takesValue := map[string]bool{}
	for _, c := range commands() {
		program := c.Root().Name()
		c.Flags().VisitAll(func(f *pflag.Flag) {
			value := f.NoOptDefVal == ""
			if known, ok := takesValue[program+f.Name]; ok && known != value {
				t.Errorf("%s: --%s takes a value here or elsewhere, not both", c.CommandPath(), f.Name)
			}
			takesValue[program+f.Name] = value
		})
	}
}
