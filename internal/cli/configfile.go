package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxConfig is the largest config file, in bytes.
const maxConfig = 1 << 20

// configFile is what --config names: a YAML mapping of settings, whose keys are
// the flags' names without dashes in front. A setting that may be given more
// than once takes a list.
type configFile struct {
	path    string
	entries map[string]entry
}

// entry is one key with its values.
type entry struct {
	values []string
	where  string   // FILE:LINE of the key
	places []string // FILE:LINE of each value of a list
}

// lookup finds a key; a nil file has none.
func (f *configFile) lookup(name string) (entry, bool) {
	if f == nil {
		return entry{}, false
	}
	e, ok := f.entries[name]
	return e, ok
}

// readConfig reads the file at path for these settings. A key that is none of
// them is an error that names it and its line.
func (s *settings) readConfig(path string) (*configFile, error) {
	if path == "" {
		return nil, nil
	}
	text, err := readFile(path, maxConfig)
	if err != nil {
		return nil, wrong("", "config file: %v", err)
	}
	return s.parseConfig(path, text)
}

// parseConfig is readConfig without the file.
func (s *settings) parseConfig(path string, text []byte) (*configFile, error) {
	file := &configFile{path: path, entries: map[string]entry{}}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, wrong("the file is YAML: one key and its value a line, such as mtu: 1280", "config file %s: %s", path, firstLine(err))
	}
	for i, doc := range parsed.Docs {
		if i > 0 && doc.Body != nil {
			return nil, wrong("keep one", "config file %s holds more than one document", path)
		}
		pairs, err := mapping(doc.Body)
		if err != nil {
			return nil, wrong("write KEY: VALUE lines, such as mtu: 1280", "config file %s: %v", path, err)
		}
		for _, pair := range pairs {
			if err := file.take(s, pair); err != nil {
				return nil, err
			}
		}
	}
	return file, nil
}

// mapping returns the pairs of a document; an empty document has none.
func mapping(body ast.Node) ([]*ast.MappingValueNode, error) {
	switch n := body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	}
	return nil, fmt.Errorf("line %d is not a key with a value", lineOf(body))
}

// take adds one pair.
func (f *configFile) take(s *settings, pair *ast.MappingValueNode) error {
	key, ok := scalar(pair.Key)
	where := fmt.Sprintf("%s:%d", f.path, lineOf(pair.Key))
	if !ok {
		return wrong("write KEY: VALUE lines, such as mtu: 1280", "%s: not a plain key", where)
	}
	st := s.byName[key]
	if st == nil || slices.Contains(onCommandLine, key) {
		return wrong(s.keyHint(key), "%s: unknown key %q", where, key)
	}
	if _, double := f.entries[key]; double {
		return wrong("keep one", "%s: key %q is there twice", where, key)
	}
	values, err := valuesOf(pair.Value, st.many)
	if err != nil {
		return wrong("", "%s: %s: %v", where, key, err)
	}
	e := entry{values: values, where: where}
	if seq, ok := pair.Value.(*ast.SequenceNode); ok {
		for _, item := range seq.Values {
			e.places = append(e.places, fmt.Sprintf("%s:%d", f.path, lineOf(item)))
		}
	}
	f.entries[key] = e
	return nil
}

// onCommandLine has the settings that no file can hold: they are about the
// file, or about one run.
var onCommandLine = []string{"config", "check"}

// keyHint says what may stand in place of an unknown key.
func (s *settings) keyHint(key string) string {
	if s.byName[key] != nil {
		return "--" + key + " is for the command line alone: take the line out"
	}
	var names []string
	for _, known := range s.list {
		if !slices.Contains(onCommandLine, known.name) {
			names = append(names, known.name)
		}
	}
	if near := nearest(key, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "keys are the names of flags, such as log-level"
}

// valuesOf reads a scalar, or a list of them where many are allowed.
func valuesOf(n ast.Node, many bool) ([]string, error) {
	if seq, ok := n.(*ast.SequenceNode); ok {
		if !many {
			return nil, fmt.Errorf("want one value, not a list")
		}
		values := make([]string, 0, len(seq.Values))
		for _, item := range seq.Values {
			v, ok := scalar(item)
			if !ok {
				return nil, fmt.Errorf("line %d: want a plain value (quote it where it holds special characters)", lineOf(item))
			}
			values = append(values, v)
		}
		return values, nil
	}
	v, ok := scalar(n)
	if !ok {
		return nil, fmt.Errorf("want a plain value (quote it where it holds special characters)")
	}
	return []string{v}, nil
}

// scalar returns a value as it is written. Anchors, tags and nested values are
// no part of this file; nor is null, which says nothing.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

// firstLine keeps a parser's error to its first line: "[3:1] what is wrong".
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
