package vectors

import (
	"maps"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	fence := "```"
	page := strings.Join([]string{
		"text that is no vector",
		fence, "a.none 00", fence,
		fence + "text vectors", "a.one   01", "        02", "a.two   two words", fence,
		fence + "json a.three", `{"x":`, `1}`, fence,
	}, "\n")
	got, err := Parse(page)
	want := map[string]string{"a.one": "0102", "a.two": "two words", "a.three": "{\"x\":\n1}"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{
		fence + "text vectors\na.one 01",
		fence + "text vectors\na.one 01\na.one 02\n" + fence,
	} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("read %q as %q", bad, got)
		}
	}
}
