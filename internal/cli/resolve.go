package cli

import (
	"errors"
	"fmt"
	"strings"
)

// resolve decides every setting. file may be nil.
func (s *settings) resolve(file *configFile) error {
	for _, st := range s.list {
		if st.def != "" {
			if err := st.assign([]string{st.def}); err != nil {
				return fmt.Errorf("default of --%s: %w", st.name, err)
			}
			st.raws = []string{st.def}
		}
		st.find(s.env, file)
	}
	if err := s.settleSecrets(); err != nil {
		return err
	}
	for _, st := range s.list {
		if st.source == "default" {
			continue
		}
		if err := st.assign(st.raws); err != nil {
			return st.wrong(err)
		}
	}
	return nil
}

// find looks for the value in the order of precedence.
func (st *setting) find(env func(string) string, file *configFile) {
	if len(st.written) > 0 {
		st.raws, st.source = st.written, "--"+st.name
		return
	}
	if v := env(st.env); st.env != "" && v != "" {
		st.raws, st.source = []string{v}, st.env
		if st.many {
			st.raws = strings.Fields(v)
		}
		return
	}
	if entry, ok := file.lookup(st.name); ok {
		st.raws, st.source, st.places = entry.values, entry.where, entry.places
	}
}

// rank orders the places a value can come from, the strongest highest.
func (st *setting) rank() int {
	switch {
	case st.source == "default":
		return 0
	case strings.HasPrefix(st.source, "--"):
		return 3
	case st.source == st.env:
		return 2
	}
	return 1
}

// settleSecrets lets the stronger of a secret and its file win; both in one
// place contradict each other.
func (s *settings) settleSecrets() error {
	for _, st := range s.list {
		if !st.secret {
			continue
		}
		file := s.byName[st.name+"-file"]
		switch a, b := st.rank(), file.rank(); {
		case a == b && a > 0:
			return wrong("give one of them", "both %s and %s are given", st.source, file.source)
		case a > b:
			file.source, file.raws = "default", nil
		case b > a:
			st.source, st.raws = "default", nil
		}
	}
	return nil
}

// wrong says which value, from which place, cannot be meant.
func (st *setting) wrong(err error) error {
	where, written := st.source, strings.Join(st.raws, " ")
	var item *itemError
	if errors.As(err, &item) {
		written = st.raws[item.at]
		if item.at < len(st.places) {
			where = st.places[item.at]
		}
	}
	if e, ok := asRuleError(err); ok {
		return wrong(e.Hint, "%s: %s", where, ruleText(e))
	}
	if st.secret || strings.HasSuffix(st.name, "-file") {
		return wrong("", "%s: %v", st.source, err)
	}
	if st.rank() == 1 {
		where += ": " + st.name
	}
	return wrong("", "%s %q: %v", where, written, err)
}

// located says of an error that names a flag where its value was written.
func (s *settings) located(err error) error {
	text := err.Error()
	for _, st := range s.list {
		rest, of := strings.CutPrefix(text, "--"+st.name)
		if !of || st.rank() == 0 || rest != "" && !strings.ContainsAny(rest[:1], " :,") {
			continue
		}
		text = st.source
		if st.rank() == 1 {
			text += ": " + st.name
		}
		return wrong("", "%s%s", text, rest)
	}
	return wrong("", "%s", text)
}

// effective lists every setting that has a value.
func (s *settings) effective() []Effective {
	var out []Effective
	for _, st := range s.list {
		v := strings.Join(st.raws, " ")
		if v == "" || st.name == "check" || (st.source == "default" && st.def == "") {
			continue
		}
		if st.secret {
			v = "(secret)"
		}
		out = append(out, Effective{Name: st.name, Value: v, Source: st.source})
	}
	return out
}
