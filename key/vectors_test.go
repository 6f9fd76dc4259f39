package key_test

import (
	"encoding/base64"
	"testing"

	"nexd/key"
	"nexd/test/vectors"
)

// TestVectors computes what docs/protocol.md shows.
func TestVectors(t *testing.T) {
	page := vectors.Open(t, "key")
	keys := map[string]key.Private{}
	for _, who := range []string{"a", "b"} {
		p, err := key.ParsePrivate(base64.StdEncoding.EncodeToString(page.Bytes("key." + who + ".private")))
		if err != nil {
			t.Fatal(err)
		}
		keys[who] = p
		page.Is("key."+who+".public", p.Public().Bytes())
		page.IsText("key."+who+".text", p.Public().String())
	}
	a, b := keys["a"], keys["b"]
	label, message := page.String("key.label"), []byte(page.String("key.message"))
	for _, side := range []struct {
		own  key.Private
		peer key.Public
	}{{a, b.Public()}, {b, a.Public()}} {
		derived, err := side.own.Derive(side.peer, label)
		if err != nil {
			t.Fatal(err)
		}
		page.Is("key.derived", derived[:])
		proof, err := side.own.Proof(side.peer, label, message)
		if err != nil {
			t.Fatal(err)
		}
		page.Is("key.proof", proof[:])
	}
}
