// Package test holds what is true of the whole tree: who may know whom. The
// packages below it run the programs.
package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "nexd"

// floors says on which floor a package lives. Imports go down only. A package
// that is not here has no place in the architecture yet: give it one, and say
// so in ARCHITECTURE.md. A package's own test helpers (x/xtest) live with it.
var floors = [][]string{
	0: {"key", "rules", "internal/buildinfo", "internal/durable", "internal/logkey", "internal/relaypath", "internal/sockerr", "test/idle", "test/need", "test/nginx", "test/simnet", "test/vectors"},
	1: {"controlapi", "internal/duplex", "internal/memlimit", "internal/opsport", "internal/selfcert", "internal/stunwire", "internal/udpmsg"},
	2: {"bind", "discovery", "internal/netwatch", "internal/stunserver", "internal/stunserver/stunmetrics", "netstack", "portmap", "proxy", "relay", "relay/relaymetrics", "state", "tunnel"},
	3: {"control", "control/store", "controlclient", "localapi"},
	4: {"internal/cli", "node", "relayd"},
	5: {"cmd/nexctl", "cmd/nexd", "examples/hello", "test", "test/cluster", "test/e2e", "test/lab", "test/lab/natlab", "test/netns", "test/paths", "test/paths/pathbench", "test/script"},
}

// neighbours may know each other though they live on one floor; so may a
// package and those below its own path. Nobody else.
var neighbours = map[string][]string{
	"internal/cli": {"node", "relayd"}, // flags become their configs
	"test/e2e":     {"test/cluster"},
}

// doors names the packages (and those below them) that may import a third
// party. What is not here is imported by nobody.
var doors = []struct {
	from     string
	packages []string
}{
	{"gvisor.dev/gvisor", []string{"netstack"}},
	{"golang.zx2c4.com/wireguard", []string{"bind", "netstack", "tunnel"}},
	{"github.com/pion", []string{"discovery", "internal/stunserver", "internal/stunwire"}},
	{"github.com/coder/websocket", []string{"relay"}},
	{"github.com/miekg/dns", []string{"proxy"}},
	{"github.com/pires/go-proxyproto", []string{"proxy"}},
	{"github.com/hashicorp/go-retryablehttp", []string{"controlclient"}},
	{"github.com/huin/goupnp", []string{"portmap"}},
	{"github.com/danielgtaylor/huma/v2", []string{"control"}},
	{"database/sql", []string{"control/store"}},
	{"modernc.org/sqlite", []string{"control/store"}},
	{"github.com/pressly/goose/v3", []string{"control/store"}},
	{"github.com/prometheus/client_golang", []string{"control", "internal/opsport", "internal/stunserver/stunmetrics", "node", "relay/relaymetrics", "relayd"}},
	{"github.com/spf13", []string{"cmd", "internal/cli"}},
	{"github.com/goccy/go-yaml", []string{"internal/cli"}},
	{"github.com/rogpeppe/go-internal", []string{"test/script"}},
	{"golang.org/x", []string{"."}},
}

// testOnly may be imported by any test and by nothing else.
var testOnly = []string{"go.uber.org/goleak", "pgregory.net/rapid", "testing", "net/http/httptest"}

// goFile is one source file as far as this test looks.
type goFile struct {
	pkg     string // directory, relative to the module's
	path    string
	name    string // of the package
	test    bool
	imports []string
	doc     string
}

// within reports whether pkg is one of roots or below one.
func within(pkg string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(r string) bool {
		return r == "." || pkg == r || strings.HasPrefix(pkg, r+"/")
	})
}

// helper reports whether pkg holds somebody's test helpers, and whose.
func helper(pkg string) (owner string, ok bool) {
	owner = path.Dir(pkg)
	return owner, path.Base(pkg) == path.Base(owner)+"test"
}

func floorOf(pkg string) int {
	if owner, ok := helper(pkg); ok {
		pkg = owner
	}
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, pkg) })
}

// judge says what is wrong with pkg importing imp; "" where nothing is. A test
// may use its neighbours, to try its package with the real ones.
func judge(pkg string, test bool, imp string) string {
	_, isHelper := helper(pkg)
	test = test || isHelper || within(pkg, "test")
	to, ours := strings.CutPrefix(imp, module+"/")
	if !ours {
		return judgeForeign(pkg, test, imp)
	}
	if _, ok := helper(to); ok && !test {
		return "only tests use test helpers"
	}
	here, there := floorOf(pkg), floorOf(to)
	switch {
	case here < 0:
		return "" // said elsewhere, once
	case there < 0:
		return to + " has no floor"
	case there > here:
		return "imports go down only: " + to + " is on floor " + strconv.Itoa(there) + ", this is floor " + strconv.Itoa(here)
	case there == here && !test && !within(pkg, to) && !within(to, pkg) && !slices.Contains(neighbours[pkg], to):
		return "packages of one floor do not know each other: declare an interface here and join them in node"
	}
	return ""
}

func judgeForeign(pkg string, test bool, imp string) string {
	if slices.Contains(testOnly, imp) {
		if !test {
			return "for tests only"
		}
		return ""
	}
	for _, d := range doors {
		if !within(imp, d.from) {
			continue
		}
		if !within(pkg, d.packages...) {
			return d.from + " has its door in " + strings.Join(d.packages, ", ")
		}
		return ""
	}
	if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") {
		return "a third party without a door"
	}
	return ""
}

func TestFloors(t *testing.T) {
	files := readTree(t, "..")
	found := map[string]bool{}
	for _, f := range files {
		if !found[f.pkg] && floorOf(f.pkg) < 0 {
			t.Errorf("%s has no floor: add it to floors in test/floors_test.go", f.pkg)
		}
		found[f.pkg] = true
		for _, imp := range f.imports {
			if wrong := judge(f.pkg, f.test, imp); wrong != "" {
				t.Errorf("%s imports %s: %s", f.path, imp, wrong)
			}
		}
	}
	for _, floor := range floors {
		for _, pkg := range floor {
			if !found[pkg] {
				t.Errorf("floors names %s, which is not there", pkg)
			}
		}
	}
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	docs := map[string]string{}
	names := map[string]string{}
	for _, f := range readTree(t, "..") {
		if strings.HasSuffix(f.name, "_test") && docs[f.pkg] != "" {
			continue
		}
		names[f.pkg] = f.name
		if f.doc != "" {
			docs[f.pkg] = f.doc
		}
	}
	for pkg, name := range names {
		switch doc := docs[pkg]; {
		case doc == "":
			t.Errorf("%s has no package comment", pkg)
		case name != "main" && !strings.HasPrefix(doc, "Package "):
			t.Errorf("%s: its comment begins %.40q, want \"Package %s …\"", pkg, doc, name)
		}
	}
}

// readTree parses what this module holds, whatever its build constraints say.
func readTree(t *testing.T, root string) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(root, p, d.Name())
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := readFile(root, p)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files: is this the module's directory?", len(files))
	}
	return files
}

// skipDir leaves out what the go command leaves out: hidden directories, test
// data, and modules of their own.
func skipDir(root, p, name string) error {
	if p == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

func readFile(root, p string) (goFile, error) {
	rel, err := filepath.Rel(root, p)
	if err != nil {
		return goFile{}, err
	}
	rel = filepath.ToSlash(rel)
	f := goFile{path: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go")}
	var parsed *ast.File
	if parsed, err = parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly|parser.ParseComments); err != nil {
		return f, err
	}
	f.name, f.doc = parsed.Name.Name, parsed.Doc.Text()
	for _, imp := range parsed.Imports {
		name, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return f, err
		}
		f.imports = append(f.imports, name)
	}
	return f, nil
}

// The judge itself is judged.
func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		pkg  string
		test bool
		imp  string
		want string
	}{
		{"proxy", false, "nexd/rules", ""},
		{"proxy", false, "nexd/netstack", "one floor"},
		{"proxy", true, "nexd/netstack", ""},
		{"proxy", true, "nexd/node", "go down only"},
		{"rules", false, "nexd/controlapi", "go down only"},
		{"control", false, "nexd/control/store", ""},
		{"control/store", false, "nexd/controlclient", "one floor"},
		{"controlclient", true, "nexd/controlclient/controlclienttest", ""},
		{"controlclient", false, "nexd/controlclient/controlclienttest", "only tests"},
		{"controlclient/controlclienttest", false, "testing", ""},
		{"internal/cli", false, "nexd/node", ""},
		{"node", false, "nexd/internal/cli", "one floor"},
		{"node", false, "nexd/unheard", "no floor"},
		{"node", false, "gvisor.dev/gvisor/pkg/tcpip", "door in netstack"},
		{"netstack", false, "gvisor.dev/gvisor/pkg/tcpip", ""},
		{"netstack", false, "golang.org/x/sys/unix", ""},
		{"node", false, "example.com/new", "without a door"},
		{"node", false, "net/http", ""},
		{"node", false, "testing", "for tests only"},
		{"node", false, "go.uber.org/goleak", "for tests only"},
		{"node", true, "go.uber.org/goleak", ""},
		{"control", false, "database/sql", "door in control/store"},
		{"control/store", false, "database/sql/driver", ""},
	} {
		got := judge(tc.pkg, tc.test, tc.imp)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s (test %t) imports %s: %q, want %q", tc.pkg, tc.test, tc.imp, got, tc.want)
		}
	}
}
