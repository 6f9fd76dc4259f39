package rules

import (
	"fmt"
	"slices"
)

// MaxRules bounds the rules of one set; each port of a range counts.
const MaxRules = 8192

// Set holds the rules of a node in the order they were added. It works on
// single ports: what was added as a range may be removed in parts. The zero
// value is empty and ready. A Set is not safe for concurrent use.
type Set struct {
	specs []Spec
	// byPort holds the rules of all specs by what two rules must share to meet.
	byPort map[portKey][]Rule
	count  int // rules in all specs
}

type portKey struct {
	direction Direction
	protocol  Protocol
	port      uint16
}

func (r Rule) portKey() portKey { return portKey{r.Direction, r.Protocol, r.Port} }

// NewSet returns a set of the specs in their order. The error is an [*Error].
func NewSet(specs ...Spec) (*Set, error) {
	s := new(Set)
	for _, spec := range specs {
		if err := s.Add(spec); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Len returns the number of rules, each port of a range counted.
func (s *Set) Len() int { return s.count }

// Specs returns what was added, as it stands now. The caller owns the slice.
func (s *Set) Specs() []Spec { return slices.Clone(s.specs) }

// Rules returns every rule in order. The caller owns the slice.
func (s *Set) Rules() []Rule {
	rules := make([]Rule, 0, s.count)
	for _, spec := range s.specs {
		rules = append(rules, spec.Rules()...)
	}
	return rules
}

// Clone returns a set that changes on its own.
func (s *Set) Clone() *Set {
	c := &Set{specs: slices.Clone(s.specs), byPort: make(map[portKey][]Rule, len(s.byPort)), count: s.count}
	for k, rules := range s.byPort {
		c.byPort[k] = slices.Clone(rules)
	}
	return c
}

// Add puts a spec at the end. On a duplicate or a conflict, see the package
// comment, it changes nothing and returns an [*Error].
func (s *Set) Add(spec Spec) error {
	if spec.IsZero() {
		return &Error{Pos: -1, Problem: "rule is empty"}
	}
	if s.count+spec.Len() > MaxRules {
		return setError(spec, "use fewer or smaller ranges", "more than %d rules", MaxRules)
	}
	for i := range spec.Len() {
		r := spec.at(i)
		for _, old := range s.byPort[r.portKey()] {
			if err := meet(spec, r, old); err != nil {
				return err
			}
		}
	}
	if s.byPort == nil {
		s.byPort = make(map[portKey][]Rule)
	}
	for i := range spec.Len() {
		r := spec.at(i)
		s.byPort[r.portKey()] = append(s.byPort[r.portKey()], r)
	}
	s.specs = append(s.specs, spec)
	s.count += spec.Len()
	return nil
}

// Remove takes out the rules of a spec. Its options may be left out; those it
// has must be the ones declared. When a rule is not there it changes nothing
// and returns an [*Error].
func (s *Set) Remove(spec Spec) error {
	for i := range spec.Len() {
		r := spec.at(i)
		old, ok := s.find(r)
		switch {
		case !ok:
			return setError(spec, s.removeHint(r), "%s is not declared", r)
		case !r.Options.IsZero() && !r.Options.Equal(old.Options):
			return setError(spec, "write it so, or without options", "it is declared as %s", old)
		}
	}
	s.count -= spec.Len()
	var specs []Spec
	for _, old := range s.specs {
		specs = appendWithout(specs, old, spec)
	}
	s.specs = specs
	for i := range spec.Len() {
		r := spec.at(i)
		k := r.portKey()
		left := slices.DeleteFunc(s.byPort[k], r.sameEnds)
		if len(left) == 0 {
			delete(s.byPort, k)
			continue
		}
		s.byPort[k] = left
	}
	return nil
}

// Change returns a new set with some rules removed and then others added; the
// receiver stays as it is, whatever the error.
func (s *Set) Change(add, remove []Spec) (*Set, error) {
	next := s.Clone()
	for _, spec := range remove {
		if err := next.Remove(spec); err != nil {
			return nil, err
		}
	}
	for _, spec := range add {
		if err := next.Add(spec); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// Difference is what a change of sets does to single rules.
type Difference struct {
	Kept    []Rule // the same in every part; in the order of the new set
	Added   []Rule // in the order of the new set
	Removed []Rule // in the order of the old set
}

// Diff returns what turns s into next. A rule whose options changed is removed and added.
func (s *Set) Diff(next *Set) Difference {
	var d Difference
	for _, r := range next.Rules() {
		if old, ok := s.find(r); ok && old.Equal(r) {
			d.Kept = append(d.Kept, r)
		} else {
			d.Added = append(d.Added, r)
		}
	}
	for _, r := range s.Rules() {
		if now, ok := next.find(r); !ok || !now.Equal(r) {
			d.Removed = append(d.Removed, r)
		}
	}
	return d
}

// sameEnds reports whether both listen and lead to the same place, whatever the options.
func (r Rule) sameEnds(o Rule) bool { return r.Key() == o.Key() && r.Target == o.Target }

func (s *Set) find(r Rule) (Rule, bool) {
	for _, old := range s.byPort[r.portKey()] {
		if old.sameEnds(r) {
			return old, true
		}
	}
	return Rule{}, false
}

// removeHint names a rule that may have been meant.
func (s *Set) removeHint(r Rule) string {
	if near := s.byPort[r.portKey()]; len(near) > 0 {
		return fmt.Sprintf("declared on that port: %s", near[0])
	}
	return fmt.Sprintf("no %s rule for %s port %d is declared", r.Direction, r.Protocol, r.Port)
}

// appendWithout appends the parts of spec that no rule of gone takes out.
func appendWithout(specs []Spec, spec, gone Spec) []Spec {
	from := 0 // first port of the part that stays
	for i := range spec.Len() {
		if !gone.covers(spec.at(i)) {
			continue
		}
		if i > from {
			specs = append(specs, spec.slice(from, i))
		}
		from = i + 1
	}
	switch {
	case from == 0:
		return append(specs, spec)
	case from < spec.Len():
		return append(specs, spec.slice(from, spec.Len()))
	}
	return specs
}

// covers reports whether one of the spec's rules has the same ends as r.
func (s Spec) covers(r Rule) bool {
	i := int(r.Port) - int(s.first.Port)
	return i >= 0 && i < s.Len() && s.at(i).sameEnds(r)
}

func setError(spec Spec, hint, format string, args ...any) error {
	return &Error{Direction: spec.Direction(), Input: spec.String(), Pos: -1, Problem: fmt.Sprintf(format, args...), Hint: hint}
}
