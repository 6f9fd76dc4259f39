package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// Forms of output.
const (
	asTable    = "table"
	asJSON     = "json"
	asYAML     = "yaml"
	asNoHeader = "no-header"
)

var formats = []string{asTable, asJSON, asYAML, asNoHeader}

// outputFlag adds --output.
func outputFlag(c *cobra.Command, format *string) {
	*format = asTable
	c.Flags().VarP((*formatFlag)(format), "output", "o", "form of the output: table, json, yaml or no-header")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// formatFlag takes one of the forms.
type formatFlag string

func (f *formatFlag) String() string { return string(*f) }
func (f *formatFlag) Type() string   { return "FORM" }
func (f *formatFlag) Set(s string) error {
	v, err := oneOf(formats...)(s)
	if err != nil {
		return fmt.Errorf("want table, json, yaml or no-header")
	}
	*f = formatFlag(v)
	return nil
}

// print writes doc as JSON or YAML, or lets people fill tables.
func (a *app) print(format string, doc any, people func(*tables)) error {
	var text []byte
	var err error
	switch format {
	case asJSON:
		text, err = encodeJSON(doc)
	case asYAML:
		text, err = encodeYAML(doc)
	default:
		var b bytes.Buffer
		t := &tables{Writer: &b, header: format != asNoHeader}
		people(t)
		text, err = b.Bytes(), t.err
	}
	if err != nil {
		return fmt.Errorf("print as %s: %w", format, err)
	}
	_, err = a.Out.Write(text)
	return err
}

func encodeJSON(doc any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(doc)
	return b.Bytes(), err
}

// encodeYAML has the keys of the JSON form, in their order.
func encodeYAML(doc any) ([]byte, error) {
	text, err := encodeJSON(doc)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(text)
}

// tables writes aligned columns.
type tables struct {
	io.Writer
	header bool
	err    error
}

// table writes rows below their header. An empty table is its header.
func (t *tables) table(header []string, rows [][]string) {
	w := tabwriter.NewWriter(t.Writer, 0, 8, 2, ' ', 0)
	if t.header {
		rows = append([][]string{header}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			} else {
				row[i] = printable(cell)
			}
		}
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			t.err = err
		}
	}
	if err := w.Flush(); err != nil {
		t.err = err
	}
}

// facts writes names and values, one a line.
func (t *tables) facts(pairs ...string) {
	w := tabwriter.NewWriter(t.Writer, 0, 8, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		value := printable(pairs[i+1])
		if value == "" {
			value = "-"
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\n", pairs[i], value); err != nil {
			t.err = err
		}
	}
	if err := w.Flush(); err != nil {
		t.err = err
	}
}
