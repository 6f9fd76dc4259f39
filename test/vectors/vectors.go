// Package vectors reads the test vectors that stand in docs/protocol.md. The
// page itself is what tests compute, so it cannot drift from the code.
//
// A vector is a line of a fenced block called "text vectors", its name and its
// value; a line that begins with a space continues the value before it:
//
//	pair.check   4f0c…
//	             91d2…
//
// or a whole fenced block called "json NAME". Bytes are written in hexadecimal.
package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Page is docs/protocol.md, its lines and what vectors they hold.
type Page struct {
	t      testing.TB
	Text   string
	values map[string]string
	used   map[string]bool
}

// Open reads the page. When the test ends well, every vector whose name begins
// with prefix and a dot must have been used.
func Open(t testing.TB, prefix string) *Page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	p := &Page{t: t, Text: string(text), values: values, used: map[string]bool{}}
	t.Cleanup(func() {
		for name := range values {
			if strings.HasPrefix(name, prefix+".") && !p.used[name] && !t.Failed() {
				t.Errorf("docs/protocol.md: nothing computes the vector %s", name)
			}
		}
	})
	return p
}

// root is the directory of the module the test belongs to.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir
		}
		if up := filepath.Dir(dir); up != dir {
			dir = up
			continue
		}
		err = fmt.Errorf("no go.mod above %s", dir)
	}
	t.Fatal(err)
	return ""
}

// Parse returns the vectors of a page by name.
func Parse(page string) (map[string]string, error) {
	values := map[string]string{}
	put := func(name, value string) error {
		if _, twice := values[name]; twice {
			return fmt.Errorf("vector %s is there twice", name)
		}
		values[name] = value
		return nil
	}
	info, block := "", []string(nil)
	for i, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && info == "":
			if info = strings.TrimSpace(fence); info == "" {
				info = "none"
			}
			block = nil
		case isFence:
			if err := readBlock(info, block, put); err != nil {
				return nil, fmt.Errorf("block that ends in line %d: %w", i+1, err)
			}
			info = ""
		case info != "":
			block = append(block, line)
		}
	}
	if info != "" {
		return nil, fmt.Errorf("a fenced block does not end")
	}
	return values, nil
}

func readBlock(info string, lines []string, put func(name, value string) error) error {
	if name, ok := strings.CutPrefix(info, "json "); ok {
		return put(name, strings.Join(lines, "\n"))
	}
	if info != "text vectors" {
		return nil
	}
	name, value := "", ""
	flush := func() error {
		if name == "" {
			return nil
		}
		return put(name, value)
	}
	for _, line := range lines {
		if strings.HasPrefix(line, " ") {
			value += strings.TrimSpace(line)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		name, value, _ = strings.Cut(line, " ")
		value = strings.TrimSpace(value)
	}
	return flush()
}

// String returns the value of a vector as it is written.
func (p *Page) String(name string) string {
	p.t.Helper()
	value, ok := p.values[name]
	if !ok {
		p.t.Fatalf("docs/protocol.md has no vector %s", name)
	}
	p.used[name] = true
	return value
}

// Bytes returns the value of a vector written in hexadecimal.
func (p *Page) Bytes(name string) []byte {
	p.t.Helper()
	b, err := hex.DecodeString(p.String(name))
	if err != nil {
		p.t.Fatalf("docs/protocol.md: vector %s: %v", name, err)
	}
	return b
}

// Is checks that a vector is what the code computes.
func (p *Page) Is(name string, computed []byte) {
	p.t.Helper()
	if got := p.String(name); got != hex.EncodeToString(computed) {
		p.t.Errorf("docs/protocol.md: the vector %s is %s, the code says\n%x", name, got, computed)
	}
}

// IsText is Is for a vector that is text.
func (p *Page) IsText(name, computed string) {
	p.t.Helper()
	if got := p.String(name); got != computed {
		p.t.Errorf("docs/protocol.md: the vector %s is %s, the code says\n%s", name, got, computed)
	}
}

// JSON reads a vector into a message and checks that the message, written
// again, is the same text: the page has no field the code does not know, and
// none in another form.
func (p *Page) JSON(name string, into any) {
	p.t.Helper()
	text := []byte(p.String(name))
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		p.t.Fatalf("docs/protocol.md: %s: %v", name, err)
	}
	again, err := json.Marshal(into)
	if err != nil {
		p.t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, text); err != nil {
		p.t.Fatal(err)
	}
	if want.String() != string(again) {
		p.t.Errorf("docs/protocol.md: %s is\n%s\nthe code writes\n%s", name, want.String(), again)
	}
}
