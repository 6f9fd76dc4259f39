package node

import (
	"errors"
	"log/slog"
	"sync"

	"nexd/internal/logkey"
	"nexd/rules"
	"nexd/state"
)

// rulebook keeps which rules the node has: those declared by flags, environment
// and config file, changed by what nexctl added and removed at run time. Only
// the run-time difference is stored, so that a changed declaration takes
// effect at the next start.
type rulebook struct {
	log *slog.Logger

	mu sync.Mutex
	// mu guards the fields below; a set does not change once it is here.
	declared  *rules.Set
	effective *rules.Set
}

// newRulebook merges the declared rules with the stored difference.
func newRulebook(declared []rules.Spec, stored state.Data, log *slog.Logger) (*rulebook, error) {
	set, err := rules.NewSet(declared...)
	if err != nil {
		return nil, err
	}
	b := &rulebook{log: log, declared: set}
	b.effective = b.merge(set, stored)
	return b, nil
}

// merge applies the stored difference to a declaration. What no longer fits
// (declared by now, or in conflict with it) is left out with a log line.
func (b *rulebook) merge(declared *rules.Set, stored state.Data) *rules.Set {
	if len(stored.RemovedRules)+len(stored.Rules) == 0 {
		return declared
	}
	set := declared.Clone()
	each := func(entries []state.Rule, what string, apply func(rules.Spec) error) {
		for _, e := range entries {
			spec, err := parseEntry(e)
			if err == nil {
				err = apply(spec)
			}
			if err != nil {
				b.log.Info("stored rule no longer applies", logkey.Direction, e.Direction, logkey.Rule, e.Rule, "change", what, logkey.Reason, errText(err))
			}
		}
	}
	each(stored.RemovedRules, "removed", func(s rules.Spec) error {
		err := set.Remove(s)
		if err == nil {
			b.log.Warn("declared rule stays off: it was removed at run time (nexctl nexd proxy add brings it back)",
				logkey.Direction, s.Direction().String(), logkey.Rule, s.String())
		}
		return err
	})
	each(stored.Rules, "added", set.Add)
	return set
}

// rules returns every rule the node should have now.
func (b *rulebook) rules() []rules.Rule {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.effective.Rules()
}

// change removes and adds rules in one step. store must keep the difference
// durably; when it fails nothing has changed. Callers take turns.
func (b *rulebook) change(add, remove []rules.Spec, store func(added, removed []state.Rule) error) error {
	b.mu.Lock()
	declared, effective := b.declared, b.effective
	b.mu.Unlock()
	next, err := effective.Change(add, remove)
	if err != nil {
		return err
	}
	diff := declared.Diff(next)
	if err := store(entries(diff.Added), entries(diff.Removed)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.effective = next
	return nil
}

// redeclare replaces the declared rules, as after a reload of the config file.
// Callers take turns.
func (b *rulebook) redeclare(declared []rules.Spec, stored state.Data) error {
	set, err := rules.NewSet(declared...)
	if err != nil {
		return err
	}
	effective := b.merge(set, stored)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.declared, b.effective = set, effective
	return nil
}

func entries(list []rules.Rule) []state.Rule {
	out := make([]state.Rule, 0, len(list))
	for _, r := range list {
		out = append(out, state.Rule{Direction: r.Direction.String(), Rule: r.String()})
	}
	return out
}

func parseEntry(e state.Rule) (rules.Spec, error) {
	d, err := rules.ParseDirection(e.Direction)
	if err != nil {
		return rules.Spec{}, err
	}
	return rules.Parse(d, e.Rule)
}

// errText is the short form of a rule's error.
func errText(err error) string {
	var re *rules.Error
	if errors.As(err, &re) {
		return re.Message()
	}
	return err.Error()
}
