package key_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"nexd/key"
)

// FuzzParsePublic: a key has exactly one text, and reading undoes writing.
func FuzzParsePublic(f *testing.F) {
	f.Add("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=")
	f.Add("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmp=") // loose last bits
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("")
	f.Add("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n")
	f.Add(strings.Repeat("A", 5000))
	f.Fuzz(func(t *testing.T, s string) {
		p, err := key.ParsePublic(s)
		if err != nil {
			if !p.IsZero() {
				t.Error("an error and a key")
			}
			if len(err.Error()) > 400 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if p.IsZero() {
			t.Error("the zero key was taken")
		}
		if p.String() != s {
			t.Errorf("%q reads as %s", s, p)
		}
		text, err := p.MarshalText()
		var q key.Public
		if err != nil || q.UnmarshalText(text) != nil || q != p {
			t.Errorf("%s does not survive its text form", p)
		}
		if q, err := key.PublicFromBytes(p.Bytes()); err != nil || q != p {
			t.Errorf("%s does not survive its bytes: %v", p, err)
		}
	})
}

func TestPublicJSON(t *testing.T) {
	type doc struct {
		Key key.Public         `json:"key"`
		By  map[key.Public]int `json:"by"`
	}
	p := key.NewPrivate().Public()
	in := doc{p, map[key.Public]int{p: 1}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out doc
	if err := json.Unmarshal(b, &out); err != nil || out.Key != p || out.By[p] != 1 {
		t.Errorf("%s: %+v, %v", b, out, err)
	}
	if err := json.Unmarshal([]byte(`{"key":""}`), &out); err != nil || !out.Key.IsZero() {
		t.Errorf("an absent key: %+v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"key":"AAAA"}`), &out); err == nil {
		t.Error("a short key was taken")
	}
}

func TestPublicOrderAndCopies(t *testing.T) {
	keys := []key.Public{public(t, bobPublic), public(t, alicePublic)}
	slices.SortFunc(keys, key.Public.Compare)
	if keys[0] != public(t, alicePublic) {
		t.Error("not ordered by bytes")
	}
	b := keys[0].Bytes()
	b[0] ^= 0xff
	if keys[0] != public(t, alicePublic) {
		t.Error("Bytes gave away the key itself")
	}
	if s := keys[0].Short(); len(s) != 8 || !strings.HasPrefix(keys[0].String(), s) {
		t.Errorf("Short is %q", s)
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := key.PublicFromBytes(make([]byte, n)); err == nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
}
