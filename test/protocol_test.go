package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nexd/test/vectors"
)

// The tests here hold docs/protocol.md's tables against the source: codes and
// statuses of refusals, requests, times and bounds.

// section returns the part of the page below a heading.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("docs/protocol.md has no section %q", heading)
	}
	part, _, _ := strings.Cut(rest, "\n## ")
	return part
}

// rows returns the cells of every table row of a text whose first cell is code.
func rows(text string) (out [][]string) {
	for line := range strings.Lines(text) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); strings.HasPrefix(line, "| ") && len(cells) > 1 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			out = append(out, cells)
		}
	}
	return out
}

// sources parses the Go files of a package of this module, tests left out.
func sources(t *testing.T, pkg string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		t.Fatalf("no package %s", pkg)
	}
	return files
}

func inspect(files []*ast.File, visit func(ast.Node)) {
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if n != nil {
				visit(n)
			}
			return true
		})
	}
}

// codes returns the text of every controlapi.Code constant by its name.
func codes(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	inspect(sources(t, "controlapi"), func(n ast.Node) {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Names) != 1 || len(v.Values) != 1 || !isIdent(v.Type, "Code") {
			return
		}
		if text, ok := text(v.Values[0]); ok {
			out[v.Names[0].Name] = text
		}
	})
	if len(out) < 10 {
		t.Fatalf("only %d codes found: has their declaration changed?", len(out))
	}
	return out
}

func TestProtocolNamesEveryCode(t *testing.T) {
	page := vectors.Open(t, "refusal")
	documented := map[string][]int{}
	for _, cells := range rows(section(t, page.Text, "Refusals")) {
		code := strings.Trim(cells[0], "`")
		if code == cells[0] || code == "code" {
			continue
		}
		for _, s := range strings.Split(cells[1], ",") {
			status, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil || http.StatusText(status) == "" {
				t.Errorf("code %s: %q is no status", code, s)
			}
			documented[code] = append(documented[code], status)
		}
	}
	byName := codes(t)
	for _, code := range byName {
		if documented[code] == nil {
			t.Errorf("docs/protocol.md does not name the code %s", code)
		}
	}
	for code := range documented {
		if !slices.Contains(slices.Collect(maps.Values(byName)), code) {
			t.Errorf("docs/protocol.md names the code %s, which is not in controlapi", code)
		}
	}
	used := statuses(t, byName)
	for code, list := range used {
		for _, status := range list {
			if !slices.Contains(documented[code], status) {
				t.Errorf("the service refuses with %d %s, which docs/protocol.md does not say", status, code)
			}
		}
	}
	for code, list := range documented {
		for _, status := range list {
			// Malformed requests are also refused by the library that reads them.
			if !slices.Contains(used[code], status) && !(code == "invalid" && status < 500) {
				t.Errorf("docs/protocol.md says %d %s, which the service does not use", status, code)
			}
		}
	}
}

// statuses returns with which statuses package control uses each code: the
// first two arguments of its function problem.
func statuses(t *testing.T, codes map[string]string) map[string][]int {
	t.Helper()
	byText := map[string]int{}
	for s := 400; s < 600; s++ {
		if name := http.StatusText(s); name != "" {
			byText["Status"+strings.NewReplacer(" ", "", "-", "", "'", "").Replace(name)] = s
		}
	}
	out := map[string][]int{}
	for _, f := range sources(t, "control") {
		for _, d := range f.Decls {
			local := map[string]int{} // const forbidden = http.StatusForbidden
			status := func(e ast.Expr) int {
				if name, ok := selected(e, "http"); ok {
					return byText[name]
				}
				if id, ok := e.(*ast.Ident); ok {
					return local[id.Name]
				}
				return 0
			}
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					for i, v := range n.Values {
						if s := status(v); s != 0 {
							local[n.Names[i].Name] = s
						}
					}
				case *ast.CallExpr:
					if !isIdent(n.Fun, "problem") || len(n.Args) < 2 {
						return true
					}
					name, ok := selected(n.Args[1], "controlapi")
					if !ok {
						return true // a code chosen by the status
					}
					s := status(n.Args[0])
					if s == 0 {
						t.Errorf("%s is used with a status this test cannot read", name)
					}
					out[codes[name]] = append(out[codes[name]], s)
				}
				return true
			})
		}
	}
	return out
}

func TestProtocolNamesEveryRequest(t *testing.T) {
	page := vectors.Open(t, "request")
	for _, api := range []struct{ heading, pkg string }{
		{"The service", "control"},
		{"The daemon's socket", "localapi"},
	} {
		served := requests(t, api.pkg)
		var documented []string
		for _, cells := range rows(section(t, page.Text, api.heading)) {
			if r := strings.Trim(cells[0], "`"); r != cells[0] && strings.Contains(r, " /") {
				documented = append(documented, r)
			}
		}
		for _, r := range served {
			if !slices.Contains(documented, r) {
				t.Errorf("docs/protocol.md, %s: %s is missing", api.heading, r)
			}
		}
		for _, r := range documented {
			// The library that describes the API serves the description.
			if !slices.Contains(served, r) && r != "GET /openapi.json" {
				t.Errorf("docs/protocol.md, %s: %s is not served", api.heading, r)
			}
		}
	}
}

var pattern = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) /\S`)

// requests finds "METHOD /path" patterns, and calls with http.MethodX, "/path".
func requests(t *testing.T, pkg string) (out []string) {
	t.Helper()
	inspect(sources(t, pkg), func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		for i, arg := range call.Args {
			if s, ok := text(arg); ok && i == 0 && pattern.MatchString(s) {
				out = append(out, s)
			}
			if method, ok := selected(arg, "http"); ok && strings.HasPrefix(method, "Method") && i+1 < len(call.Args) {
				if path, ok := text(call.Args[i+1]); ok && strings.HasPrefix(path, "/") {
					out = append(out, strings.ToUpper(strings.TrimPrefix(method, "Method"))+" "+path)
				}
			}
		}
	})
	if len(out) < 5 {
		t.Fatalf("only %d requests found in %s: are they registered in another way?", len(out), pkg)
	}
	return out
}

var constantName = regexp.MustCompile("`([a-z]+)\\.([A-Za-z]+)`")

func TestProtocolTimesAndBounds(t *testing.T) {
	page := vectors.Open(t, "time")
	checked := 0
	for _, cells := range rows(section(t, page.Text, "Times and bounds")) {
		names := constantName.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(names) == 0 {
			continue
		}
		values := strings.Split(cells[1], ", ")
		if len(values) != len(names) {
			t.Errorf("%q: %d values for %d names", cells[0], len(values), len(names))
			continue
		}
		for i, name := range names {
			want, err := quantity(values[i])
			if err != nil {
				t.Error(err)
				continue
			}
			if got := constants(t, name[1], name[2]); !slices.Equal(got, []int64{want}) {
				t.Errorf("docs/protocol.md says that %s.%s is %s; the code has %v", name[1], name[2], values[i], got)
			}
			checked++
		}
	}
	if checked < 20 {
		t.Errorf("only %d values checked", checked)
	}
}

// quantity reads "2 s", "500 ms", "10 min" in nanoseconds, or a plain number.
func quantity(s string) (int64, error) {
	number, unit, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	units := map[string]time.Duration{"": 1, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour}
	if err != nil || units[unit] == 0 {
		return 0, fmt.Errorf("%q is not a quantity", s)
	}
	return n * int64(units[unit]), nil
}

// constants returns every value a package gives a name: as a constant, or as
// the default of a field, written next to its address (&c.Name, value) or
// compared and set (c.Name = value).
func constants(t *testing.T, pkg, name string) (out []int64) {
	t.Helper()
	add := func(e ast.Expr) {
		if v, ok := evaluate(e); ok && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	pairs := func(list []ast.Expr) {
		for i, e := range list {
			if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND && i+1 < len(list) && fieldName(u.X) == name {
				add(list[i+1])
			}
		}
	}
	inspect(sources(t, pkg), func(n ast.Node) {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, v := range n.Values {
				if n.Names[i].Name == name {
					add(v)
				}
			}
		case *ast.CompositeLit:
			pairs(n.Elts)
		case *ast.CallExpr:
			pairs(n.Args)
		case *ast.AssignStmt:
			if len(n.Lhs) == 1 && len(n.Rhs) == 1 && fieldName(n.Lhs[0]) == name {
				add(n.Rhs[0])
			}
		}
	})
	return out
}

// evaluate computes products and shifts of numbers and units of time.
func evaluate(e ast.Expr) (int64, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		n, err := strconv.ParseInt(strings.ReplaceAll(e.Value, "_", ""), 0, 64)
		return n, err == nil
	case *ast.BinaryExpr:
		a, ok := evaluate(e.X)
		b, okB := evaluate(e.Y)
		switch {
		case !ok || !okB:
		case e.Op == token.MUL:
			return a * b, true
		case e.Op == token.SHL:
			return a << b, true
		}
	case *ast.SelectorExpr:
		units := map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}
		if name, ok := selected(e, "time"); ok {
			return int64(units[name]), units[name] != 0
		}
	}
	return 0, false
}

func fieldName(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// selected returns x of pkg.x.
func selected(e ast.Expr, pkg string) (string, bool) {
	s, ok := e.(*ast.SelectorExpr)
	return fieldName(e), ok && isIdent(s.X, pkg)
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}
