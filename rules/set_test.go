package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustParse(t testing.TB, d Direction, text string) Spec {
	t.Helper()
	spec, err := Parse(d, text)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// texts parses "i RULE" and "e RULE".
func texts(t testing.TB, lines ...string) []Spec {
	t.Helper()
	var specs []Spec
	for _, line := range lines {
		d := Ingress
		if line[0] == 'e' {
			d = Egress
		}
		specs = append(specs, mustParse(t, d, line[2:]))
	}
	return specs
}

func mustSet(t testing.TB, lines ...string) *Set {
	t.Helper()
	s, err := NewSet(texts(t, lines...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func printed[T fmt.Stringer](list []T) string {
	var words []string
	for _, item := range list {
		words = append(words, item.String())
	}
	return strings.Join(words, " ")
}

func TestRulesThatLiveTogether(t *testing.T) {
	for _, lines := range [][]string{
		{"i tcp:80:a:80", "i udp:80:a:80"},
		{"i tcp:80:a:80", "e tcp:80:a:80"},
		{"i tcp:80:a:80", "i tcp:80:b:80"}, // balance
		{"i tcp:80:a:80", "i tcp:80:a:81"},
		{"i tcp:80:a:80", "i tcp:80:unix:/a", "i tcp:80:unix:/b"},
		{"i tcp:80:a:80,max-conns=1,dial-timeout=1s,proxy-protocol=v1", "i tcp:80:b:80,max-conns=2,idle-timeout=1s"},
		{"i tcp:80:a:80,allow=x,allow=y", "i tcp:80:b:80,allow=y,allow=x"},
		{"i tcp:80-90:a:80-90", "i tcp:85:b:85"},
		{"i tcp:80-90:a:80-90", "i tcp:91-99:a:91-99"},
		{"i tcp:100.64.0.1:80:a:80", "i tcp:[fd00::1]:80:a:80"},
		{"e tcp:80:a:80", "e tcp:192.168.1.1:80:a:80"},
		{"e tcp:80:a:80", "e tcp:127.0.0.2:80:a:80"},
		{"e tcp:127.0.0.1:80:a:80", "e tcp:[::1]:80:a:80"},
		{"e tcp:127.0.0.1:80:a:80", "e tcp:127.0.0.1:80:b:80"},
		{"e tcp:0.0.0.0:80:a:80", "e tcp:[::1]:80:a:80"},
		{"e tcp:0.0.0.0:80:a:80", "e udp:[::]:80:a:80"},
	} {
		if _, err := NewSet(texts(t, lines...)...); err != nil {
			t.Errorf("%v: %v", lines, err)
		}
	}
}

func TestDuplicatesAndConflictsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		old, add      string
		problem, hint string
	}{
		{"i tcp:80:a:80", "i TCP:80:A:80", "duplicate of tcp:80:a:80", "leave it out"},
		{"i tcp:80:a:80", "i tcp:80:a:80,max-conns=5", "duplicate of tcp:80:a:80 with other options", "remove that one first"},
		{"i tcp:80-90:a:80-90", "i tcp:85:a:85", "duplicate of tcp:85:a:85", ""},
		{"i tcp:85:a:85", "i tcp:80-90:a:80-90", "duplicate of tcp:85:a:85", ""},
		{"i tcp:80-85:a:80-85", "i tcp:85-90:a:85-90", "duplicate of tcp:85:a:85", ""},
		{"i tcp:80:unix:/a", "i tcp:80:unix:/a", "duplicate of tcp:80:unix:/a", ""},
		{"i tcp:80:a:80,allow=x", "i tcp:80:b:80", "its allow differs from that of tcp:80:a:80,allow=x", "share one listener"},
		{"i tcp:80:a:80,allow=x", "i tcp:80:b:80,allow=y", "its allow differs", "same allow"},
		{"i tcp:80:a:80", "i tcp:100.64.0.1:80:a:80", "100.64.0.1 and every mesh address (no address given) would listen twice on tcp port 80", "use another port"},
		{"i udp:[fd00::1]:80:a:80", "i udp:80:b:80", "would listen twice on udp port 80", ""},
		{"e tcp:80:a:80", "e tcp:127.0.0.1:80:b:80", "127.0.0.1 and 127.0.0.1 and ::1 (no address given) would listen twice", ""},
		{"e tcp:80:a:80", "e tcp:[::1]:80:b:80", "would listen twice", ""},
		{"e tcp:[::1]:80:a:80", "e tcp:80:b:80", "would listen twice", ""},
		{"e tcp:80:a:80", "e tcp:0.0.0.0:80:b:80", "would listen twice", ""},
		{"e tcp:80:a:80", "e tcp:[::]:80:b:80", "would listen twice", ""},
		{"e tcp:127.0.0.2:80:a:80", "e tcp:0.0.0.0:80:b:80", "would listen twice", ""},
		{"e tcp:[fd00::1]:80:a:80", "e tcp:[::]:80:b:80", "would listen twice", ""},
		{"e tcp:[::]:80:a:80", "e tcp:10.0.0.1:80:b:80", "would listen twice", ""},
		{"e tcp:[::]:80:a:80", "e tcp:0.0.0.0:80:b:80", "would listen twice", ""},
		{"e tcp:70-90:a:70-90", "e tcp:0.0.0.0:85-95:b:85-95", "twice on tcp port 85", ""},
	} {
		s := mustSet(t, tt.old)
		err := s.Add(texts(t, tt.add)[0])
		var wrong *Error
		if !errors.As(err, &wrong) {
			t.Errorf("%s beside %s: %v", tt.add, tt.old, err)
			continue
		}
		if !strings.Contains(wrong.Problem, tt.problem) || !strings.Contains(wrong.Hint, tt.hint) || wrong.Pos != -1 {
			t.Errorf("%s beside %s: %#v", tt.add, tt.old, wrong)
		}
		checkMessages(t, wrong)
		if got := printed(s.Specs()); got != tt.old[2:] || s.Len() != len(s.Rules()) {
			t.Errorf("the refused rule changed the set to %s", got)
		}
	}
}

func TestRemove(t *testing.T) {
	for _, tt := range []struct {
		old    []string
		remove string
		left   string // the specs after it, or the error after a !
	}{
		{[]string{"i tcp:80:a:80", "i tcp:81:a:81"}, "i tcp:80:a:80", "tcp:81:a:81"},
		{[]string{"i tcp:80:a:80,max-conns=5"}, "i tcp:80:a:80", ""},
		{[]string{"i tcp:80:a:80,max-conns=5"}, "i tcp:80:a:80,max-conns=5", ""},
		{[]string{"i tcp:80:a:80,max-conns=5"}, "i tcp:80:a:80,max-conns=6", "!it is declared as tcp:80:a:80,max-conns=5"},
		{[]string{"i tcp:80:a:80"}, "i tcp:80:b:80", "!declared on that port: tcp:80:a:80"},
		{[]string{"i tcp:80:a:80"}, "e tcp:80:a:80", "!no egress rule for tcp port 80 is declared"},
		{[]string{"i tcp:80:a:80", "i tcp:80:b:80"}, "i tcp:80:a:80", "tcp:80:b:80"},
		{[]string{"i tcp:80-90:a:80-90"}, "i tcp:80-90:a:80-90", ""},
		{[]string{"i tcp:80-90:a:80-90"}, "i tcp:80:a:80", "tcp:81-90:a:81-90"},
		{[]string{"i tcp:80-90:a:80-90"}, "i tcp:90:a:90", "tcp:80-89:a:80-89"},
		{[]string{"i tcp:80-90:a:180-190,max-conns=1"}, "i tcp:85:a:185", "tcp:80-84:a:180-184,max-conns=1 tcp:86-90:a:186-190,max-conns=1"},
		{[]string{"i tcp:80-90:a:80-90"}, "i tcp:85:a:86", "!tcp:85:a:86 is not declared"},
		{[]string{"i tcp:80-90:a:80-90"}, "i tcp:89-91:a:89-91", "!tcp:91:a:91 is not declared"},
		{[]string{"i tcp:80-84:a:80-84", "i tcp:1:a:1", "i tcp:85-90:a:85-90"}, "i tcp:82-87:a:82-87", "tcp:80-81:a:80-81 tcp:1:a:1 tcp:88-90:a:88-90"},
	} {
		s := mustSet(t, tt.old...)
		before := printed(s.Specs())
		err := s.Remove(texts(t, tt.remove)[0])
		if problem, refused := strings.CutPrefix(tt.left, "!"); refused {
			if err == nil || !strings.Contains(err.Error(), problem) || printed(s.Specs()) != before {
				t.Errorf("%v without %s: %v, left %s", tt.old, tt.remove, err, printed(s.Specs()))
			}
			continue
		}
		if got := printed(s.Specs()); err != nil || got != tt.left {
			t.Errorf("%v without %s: got %s (%v), want %s", tt.old, tt.remove, got, err, tt.left)
		}
		if s.Len() != len(s.Rules()) {
			t.Errorf("Len %d, %d rules", s.Len(), len(s.Rules()))
		}
	}
}

func TestChangeAllOrNothing(t *testing.T) {
	s := mustSet(t, "i tcp:80:a:80", "e tcp:81:b:81")
	next, err := s.Change(texts(t, "i tcp:80:a:80,max-conns=2"), texts(t, "i tcp:80:a:80"))
	if err != nil || printed(next.Specs()) != "tcp:81:b:81 tcp:80:a:80,max-conns=2" {
		t.Errorf("new options: %v %v", next, err)
	}
	if _, err := s.Change(texts(t, "i tcp:90:a:90", "e tcp:81:b:81"), texts(t, "i tcp:80:a:80")); err == nil {
		t.Error("a duplicate was added")
	}
	if got := printed(s.Specs()); got != "tcp:80:a:80 tcp:81:b:81" {
		t.Errorf("the old set became %s", got)
	}
}

func TestDiff(t *testing.T) {
	old := mustSet(t, "i tcp:80-82:a:80-82", "e tcp:1:b:1", "e tcp:2:b:2,max-conns=1")
	next := mustSet(t, "e tcp:2:b:2,max-conns=2", "i tcp:81-83:a:81-83", "e tcp:1:b:1", "i tcp:81:c:81")
	d := old.Diff(next)
	if got := printed(d.Kept); got != "tcp:81:a:81 tcp:82:a:82 tcp:1:b:1" {
		t.Errorf("kept %s", got)
	}
	if got := printed(d.Added); got != "tcp:2:b:2,max-conns=2 tcp:83:a:83 tcp:81:c:81" {
		t.Errorf("added %s", got)
	}
	if got := printed(d.Removed); got != "tcp:80:a:80 tcp:2:b:2,max-conns=1" {
		t.Errorf("removed %s", got)
	}
}

func TestSetIsBounded(t *testing.T) {
	s := new(Set)
	for i := range MaxRules / MaxRange {
		if err := s.Add(mustParse(t, Egress, fmt.Sprintf("tcp:%d-%d:h:1-1024", 1+i*MaxRange, (i+1)*MaxRange))); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Add(mustParse(t, Egress, "udp:1:h:1"))
	if err == nil || !strings.Contains(err.Error(), "more than 8192 rules") {
		t.Errorf("got %v", err)
	}
	if err := s.Add(Spec{}); err == nil {
		t.Error("the zero Spec was added")
	}
}

// TestSetAgainstASimpleModel compares random changes with a plain list of rules.
func TestSetAgainstASimpleModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, model := new(Set), []Rule(nil)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			first := rapid.IntRange(1, 12).Draw(t, "first")
			last := rapid.IntRange(first, min(first+4, 12)).Draw(t, "last")
			bind := rapid.SampledFrom([]string{"", "127.0.0.1:", "[::1]:", "10.0.0.1:", "0.0.0.0:", "[::]:"}).Draw(t, "bind")
			host := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "host")
			option := rapid.SampledFrom([]string{"", "", ",max-conns=1", ",allow=10.0.0.0/8"}).Draw(t, "option")
			spec, err := Parse(Egress, fmt.Sprintf("tcp:%s%d-%d:%s:%d-%d%s", bind, first, last, host, first, last, option))
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "remove") {
				model = modelRemove(t, set, model, spec)
			} else {
				model = modelAdd(t, set, model, spec)
			}
			sameRules(t, set.Rules(), model)
			if set.Len() != len(model) {
				t.Fatalf("Len %d, want %d", set.Len(), len(model))
			}
			again, err := NewSet(set.Specs()...)
			if err != nil {
				t.Fatalf("the set's own specs conflict: %v", err)
			}
			if d := set.Diff(again); len(d.Added)+len(d.Removed) != 0 {
				t.Fatalf("a copy differs: %+v", d)
			}
		}
	})
}

func modelAdd(t *rapid.T, set *Set, model []Rule, spec Spec) []Rule {
	ok := true
	for _, r := range spec.Rules() {
		for _, old := range model {
			if r.Port == old.Port && meet(spec, r, old) != nil {
				ok = false
			}
		}
	}
	if err := set.Add(spec); (err == nil) != ok {
		t.Fatalf("add %s: %v, want success %v", spec, err, ok)
	}
	if ok {
		model = append(model, spec.Rules()...)
	}
	return model
}

func modelRemove(t *rapid.T, set *Set, model []Rule, spec Spec) []Rule {
	var left []Rule
	gone := 0
	for _, old := range model {
		hit := slices.ContainsFunc(spec.Rules(), func(r Rule) bool {
			return r.sameEnds(old) && (r.Options.IsZero() || r.Options.Equal(old.Options))
		})
		if hit {
			gone++
		} else {
			left = append(left, old)
		}
	}
	ok := gone == spec.Len()
	if err := set.Remove(spec); (err == nil) != ok {
		t.Fatalf("remove %s: %v, want success %v", spec, err, ok)
	}
	if ok {
		return left
	}
	return model
}

func sameRules(t *rapid.T, got, want []Rule) {
	if !slices.EqualFunc(got, want, Rule.Equal) {
		t.Fatalf("got %s, want %s", printed(got), printed(want))
	}
}
