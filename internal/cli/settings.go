package cli

import (
	"strings"

	"github.com/spf13/pflag"
)

// settings are the values a daemon is started with. Each is written as a flag,
// as an environment variable or in the config file; the first of these that has
// it wins, else the default holds.
type settings struct {
	list   []*setting
	byName map[string]*setting
	env    func(string) string
}

// setting is one value and where it came from. It is also the flag's value:
// parsing the command line only records what was written, and resolve decides.
type setting struct {
	name   string // of the flag and of the key in the config file
	env    string
	usage  string
	kind   string // of the value, in --help
	def    string // the default, as written; shown in --help
	bool   bool
	many   bool // may be given more than once
	secret bool // not shown; has a twin that names a file

	assign func(raws []string) error

	written []string // on the command line
	raws    []string // that won
	source  string   // "--mtu", "NEXD_MTU", "FILE:3" or "default"
	places  []string // "FILE:4" of each of raws, where they are from a list in the file
}

// Effective is a setting with its value and where the value came from.
type Effective struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func newSettings(env func(string) string) *settings {
	return &settings{byName: map[string]*setting{}, env: env}
}

func (s *settings) add(st *setting) *setting {
	st.env = "NEXD_" + strings.ToUpper(strings.ReplaceAll(st.name, "-", "_"))
	st.source = "default"
	s.list = append(s.list, st)
	s.byName[st.name] = st
	return st
}

// option declares a single value. kind names it in --help.
func option[T any](s *settings, dst *T, name, kind, usage string, parse func(string) (T, error)) *setting {
	return s.add(&setting{name: name, kind: kind, usage: usage, assign: func(raws []string) error {
		v, err := parse(raws[len(raws)-1])
		if err != nil {
			return err
		}
		*dst = v
		return nil
	}})
}

// options declares a value that may be given more than once; in the environment
// the values are separated by spaces.
func options[T any](s *settings, dst *[]T, name, kind, usage string, parse func(string) (T, error)) *setting {
	st := s.add(&setting{name: name, kind: kind, usage: usage, many: true})
	st.assign = func(raws []string) error {
		values := make([]T, 0, len(raws))
		for i, raw := range raws {
			v, err := parse(raw)
			if err != nil {
				return &itemError{at: i, err: err}
			}
			values = append(values, v)
		}
		*dst = values
		return nil
	}
	return st
}

// itemError is one wrong value among many.
type itemError struct {
	at  int
	err error
}

func (e *itemError) Error() string { return e.err.Error() }
func (e *itemError) Unwrap() error { return e.err }

// toggle declares a flag that is on or off.
func (s *settings) toggle(dst *bool, name, usage string) *setting {
	st := option(s, dst, name, "", usage, parseBool)
	st.bool = true
	return st
}

// hidden declares a secret NAME, and NAME-file for a file that holds it.
func (s *settings) hidden(dst *string, name, kind, usage, what string) {
	secret := option(s, dst, name, kind, usage, parseText)
	secret.secret = true
	option(s, dst, name+"-file", "FILE", "file that holds "+what, readSecret)
}

// Default gives the value that holds when nothing was written.
func (st *setting) Default(raw string) *setting {
	st.def = raw
	return st
}

// register adds the flags to a command's flag set.
func (s *settings) register(fs *pflag.FlagSet) {
	for _, st := range s.list {
		usage := st.usage
		if st.env != "" {
			usage += " [" + st.env + "]"
		}
		f := fs.VarPF(st, st.name, "", usage)
		if st.bool {
			f.NoOptDefVal = "true"
		}
	}
}

// Set records one occurrence on the command line.
func (st *setting) Set(raw string) error {
	st.written = append(st.written, raw)
	return nil
}

// String is the default; --help shows it.
func (st *setting) String() string { return st.def }

// Type is the placeholder in --help.
func (st *setting) Type() string {
	if st.bool {
		return "bool"
	}
	return st.kind
}

// replay takes what was written on another's command line. Files of secrets are
// not read again: they were needed at the start, and may be gone since.
func (s *settings) replay(from *settings) {
	for _, st := range s.list {
		st.written = from.byName[st.name].written
		if st.secret {
			s.byName[st.name+"-file"].assign = func([]string) error { return nil }
		}
	}
}
