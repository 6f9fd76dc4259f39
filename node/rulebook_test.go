package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"testing"

	"nexd/rules"
	"nexd/state"
)

func specs(list ...rules.Spec) []rules.Spec { return list }

// ledger is a rulebook with the store it writes to.
type ledger struct {
	*rulebook
	t      *testing.T
	stored state.Data
}

func newLedger(t *testing.T, declared []rules.Spec, stored state.Data) *ledger {
	t.Helper()
	b, err := newRulebook(declared, stored, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &ledger{b, t, stored}
}

func (l *ledger) store(added, removed []state.Rule) error {
	l.stored.Rules, l.stored.RemovedRules = added, removed
	return nil
}

func (l *ledger) mustChange(add, remove []rules.Spec) {
	l.t.Helper()
	if err := l.change(add, remove, l.store); err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledger) has(want ...string) {
	l.t.Helper()
	got := []string{}
	for _, r := range l.rules() {
		got = append(got, r.Direction.String()+" "+r.String())
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("rules are %q, want %q", got, want)
	}
}

func (l *ledger) keeps(added, removed int) {
	l.t.Helper()
	if len(l.stored.Rules) != added || len(l.stored.RemovedRules) != removed {
		l.t.Errorf("stored: added %v, removed %v; want %d and %d", l.stored.Rules, l.stored.RemovedRules, added, removed)
	}
}

const (
	webRule = "ingress tcp:80:127.0.0.1:8080"
	dbRule  = "egress tcp:5432:db:5432"
)

func web(t *testing.T) rules.Spec { return ingress(t, "tcp:80:127.0.0.1:8080") }
func db(t *testing.T) rules.Spec  { return egress(t, "tcp:5432:db:5432") }

// Only the difference to the declaration is stored.
func TestRulebookStoresTheDifference(t *testing.T) {
	t.Parallel()
	l := newLedger(t, specs(web(t)), state.Data{})
	l.has(webRule)
	l.mustChange(specs(db(t)), nil)
	l.has(webRule, dbRule)
	l.keeps(1, 0)
	l.mustChange(nil, specs(web(t)))
	l.has(dbRule)
	l.keeps(1, 1)

	again := newLedger(t, specs(web(t)), l.stored)
	again.has(dbRule)
	again.mustChange(specs(web(t)), specs(db(t)))
	again.has(webRule)
	again.keeps(0, 0)
}

func TestRulebookTakesAPartOfARange(t *testing.T) {
	t.Parallel()
	declared := specs(ingress(t, "tcp:8000-8002:127.0.0.1:9000-9002"))
	l := newLedger(t, declared, state.Data{})
	l.mustChange(nil, specs(ingress(t, "tcp:8001:127.0.0.1:9001")))
	want := []string{"ingress tcp:8000:127.0.0.1:9000", "ingress tcp:8002:127.0.0.1:9002"}
	l.has(want...)
	newLedger(t, declared, l.stored).has(want...)
}

// Other options of a declared rule are a removal and an addition.
func TestRulebookKeepsChangedOptions(t *testing.T) {
	t.Parallel()
	l := newLedger(t, specs(web(t)), state.Data{})
	l.mustChange(specs(ingress(t, "tcp:80:127.0.0.1:8080,max-conns=3")), specs(web(t)))
	l.keeps(1, 1)
	newLedger(t, specs(web(t)), l.stored).has(webRule + ",max-conns=3")
}

// What is stored and no longer fits is left out; the rest counts.
func TestRulebookAfterAnotherDeclaration(t *testing.T) {
	t.Parallel()
	stored := state.Data{
		Rules: []state.Rule{
			{Direction: "ingress", Rule: "tcp:80:127.0.0.1:8080"},
			{Direction: "egress", Rule: "tcp:5432:db:5432"},
			{Direction: "sideways", Rule: "tcp:1:x:1"},
			{Direction: "egress", Rule: "of another version"},
		},
		RemovedRules: []state.Rule{{Direction: "ingress", Rule: "tcp:99:127.0.0.1:99"}},
	}
	newLedger(t, nil, stored).has(webRule, dbRule)
	newLedger(t, specs(web(t)), stored).has(webRule, dbRule) // declared by now

	l := newLedger(t, nil, stored)
	if err := l.redeclare(specs(ingress(t, "udp:53:127.0.0.1:53")), l.stored); err != nil {
		t.Fatal(err)
	}
	l.has("ingress udp:53:127.0.0.1:53", webRule, dbRule)
}

// A refused change leaves everything as it was.
func TestRulebookRefusals(t *testing.T) {
	t.Parallel()
	never := func(_, _ []state.Rule) error { t.Error("stored"); return nil }
	for _, tc := range []struct {
		name        string
		add, remove []rules.Spec
	}{
		{"there already", specs(web(t)), nil},
		{"not there", nil, specs(db(t))},
		{"good removal, bad addition", specs(db(t), db(t)), specs(web(t))},
		{"twice removed", nil, specs(web(t), web(t))},
	} {
		l := newLedger(t, specs(web(t)), state.Data{})
		var refused *rules.Error
		if err := l.change(tc.add, tc.remove, never); !errors.As(err, &refused) {
			t.Errorf("%s: change = %v, want a *rules.Error", tc.name, err)
		}
		l.has(webRule)
	}
	l := newLedger(t, specs(web(t)), state.Data{})
	if err := l.redeclare(specs(db(t), db(t)), l.stored); err == nil {
		t.Error("redeclare takes a rule twice")
	}
	l.has(webRule)
	full := fmt.Errorf("write: %w", fs.ErrPermission)
	if err := l.change(specs(db(t)), specs(web(t)), func(_, _ []state.Rule) error { return full }); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("change with a failing store = %v", err)
	}
	l.has(webRule)
	l.mustChange(specs(db(t)), nil)
	l.has(webRule, dbRule)
}
