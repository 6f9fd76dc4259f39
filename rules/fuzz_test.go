package rules

import (
	"errors"
	"slices"
	"testing"
)

// FuzzParse: whatever the text, Parse returns either a spec whose canonical
// form is the same spec, or an error that is fit for a terminal.
func FuzzParse(f *testing.F) {
	for _, tt := range goodRules {
		f.Add(tt.direction == Egress, tt.text)
	}
	for _, tt := range badRules {
		f.Add(tt.direction == Egress, tt.text)
	}
	f.Fuzz(func(t *testing.T, egress bool, text string) {
		d := Ingress
		if egress {
			d = Egress
		}
		spec, err := Parse(d, text)
		if err == nil {
			checkRoundTrip(t, spec)
			if _, err := NewSet(spec); err != nil {
				t.Fatalf("%s conflicts with itself: %v", spec, err)
			}
			return
		}
		var wrong *Error
		if !errors.As(err, &wrong) {
			t.Fatalf("not an *Error: %v", err)
		}
		if wrong.Pos < -1 || wrong.Pos > len(text) || wrong.Input != text {
			t.Fatalf("position %d in %q", wrong.Pos, text)
		}
		checkMessages(t, wrong)
	})
}

// FuzzParseList: the list is what its fields are one by one.
func FuzzParseList(f *testing.F) {
	f.Add("tcp:1:a:1 udp:2-3:b:2-3\ttcp:4:c:4")
	f.Add("tcp:1:a:1,allow=10.0.0.0/8\n")
	f.Add("  tcp:1:a:1\u00a0tcp:0:b:1")
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := ParseList(Egress, text)
		if err != nil {
			return
		}
		list, err := ParseList(Egress, printed(specs))
		if err != nil || !slices.EqualFunc(list, specs, Spec.Equal) {
			t.Fatalf("%q came back as %v, %v", text, list, err)
		}
	})
}
