package rules

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is a rule that is wrong, or wrong beside the rules already there.
type Error struct {
	Direction Direction
	Input     string // the rule as it was written; may hold anything
	Pos       int    // byte of Input where it goes wrong, or -1: the rule as a whole
	Problem   string // what is wrong, without the input
	Hint      string // what to write instead; may be empty
}

// Error returns it all in one line.
func (e *Error) Error() string {
	s := e.Message()
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

// Message returns one line without the hint.
func (e *Error) Message() string {
	return fmt.Sprintf("%s rule %q: %s", e.Direction, clip(e.Input, 200), e.Problem)
}

// shownAround is how many characters of a long rule stand on either side of the wrong place.
const shownAround = 60

// Detail returns several lines: the problem, the rule with a caret under the
// wrong place, and the hint. No line break is at its end.
func (e *Error) Detail() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s rule: %s", e.Direction, e.Problem)
	before, after := e.Input, ""
	if e.Pos >= 0 && e.Pos <= len(e.Input) {
		before, after = e.Input[:e.Pos], e.Input[e.Pos:]
	}
	left, right := printable(before), printable(after)
	if e.Pos < 0 {
		left, right = nil, left
	}
	if len(left) > shownAround {
		left = append([]rune{'…'}, left[len(left)-shownAround:]...)
	}
	if len(right) > shownAround {
		right = append(right[:shownAround:shownAround], '…')
	}
	fmt.Fprintf(&b, "\n  %s%s", string(left), string(right))
	if e.Pos >= 0 {
		fmt.Fprintf(&b, "\n  %s^", strings.Repeat(" ", len(left)))
	}
	if e.Hint != "" {
		b.WriteString("\n" + e.Hint)
	}
	return b.String()
}

// printable returns s with a visible stand-in for whatever a terminal might act on.
func printable(s string) []rune {
	runes := make([]rune, 0, min(len(s), 256))
	for _, r := range s {
		if r != ' ' && !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		runes = append(runes, r)
	}
	return runes
}

// clip keeps foreign text in a message short.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
