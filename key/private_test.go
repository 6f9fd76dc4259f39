package key_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"nexd/key"
)

// The keys and the shared secret of RFC 7748 section 6.1.
const (
	alicePrivate = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
	alicePublic  = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
	bobPublic    = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
	sharedSecret = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func private(t *testing.T, hexKey string) key.Private {
	t.Helper()
	p, err := key.ParsePrivate(base64.StdEncoding.EncodeToString(unhex(t, hexKey)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func public(t *testing.T, hexKey string) key.Public {
	t.Helper()
	p, err := key.PublicFromBytes(unhex(t, hexKey))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRFC7748(t *testing.T) {
	alice, bob := private(t, alicePrivate), public(t, bobPublic)
	if got := alice.Public(); got != public(t, alicePublic) {
		t.Errorf("Alice's public key is %s", got.Hex())
	}
	got, err := alice.Derive(bob, "a label")
	if err != nil {
		t.Fatal(err)
	}
	salt := append(unhex(t, alicePublic), unhex(t, bobPublic)...) // in byte order already
	want, err := hkdf.Key(sha256.New, unhex(t, sharedSecret), salt, "a label", 32)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:], want) {
		t.Errorf("derived %x, want %x", got, want)
	}
}

func TestDeriveIsOfThePairAndTheLabel(t *testing.T) {
	a, b, c := key.NewPrivate(), key.NewPrivate(), key.NewPrivate()
	derive := func(p key.Private, peer key.Public, label string) string {
		t.Helper()
		s, err := p.Derive(peer, label)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(s[:])
	}
	ab := derive(a, b.Public(), "x")
	if ba := derive(b, a.Public(), "x"); ab != ba {
		t.Error("the two sides derive different secrets")
	}
	others := []string{ab, derive(a, b.Public(), "y"), derive(a, c.Public(), "x"), derive(c, b.Public(), "x"), derive(a, a.Public(), "x")}
	slices.Sort(others)
	if len(slices.Compact(others)) != 5 {
		t.Error("secrets that should differ are equal")
	}
}

func TestDeriveRefuses(t *testing.T) {
	p := key.NewPrivate()
	var one [key.Size]byte
	one[0] = 1 // a point of low order: the secret would be known to all
	low, err := key.PublicFromBytes(one[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Derive(low, "x"); err == nil {
		t.Error("derived from a point of low order")
	}
	if _, err := p.Derive(key.Public{}, "x"); !errors.Is(err, key.ErrZero) {
		t.Errorf("with no peer: %v", err)
	}
	if _, err := (key.Private{}).Derive(p.Public(), "x"); !errors.Is(err, key.ErrZero) {
		t.Errorf("with no key: %v", err)
	}
	if _, err := (key.Private{}).Proof(p.Public(), "x", nil); !errors.Is(err, key.ErrZero) {
		t.Errorf("proof with no key: %v", err)
	}
}

func TestProof(t *testing.T) {
	device, service, stranger := key.NewPrivate(), key.NewPrivate(), key.NewPrivate()
	proof, err := device.Proof(service.Public(), "join", []byte("transcript"))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(peer key.Public, label, transcript string, proof []byte) bool {
		return service.VerifyProof(peer, label, []byte(transcript), proof)
	}
	if !verify(device.Public(), "join", "transcript", proof[:]) {
		t.Error("a good proof was refused")
	}
	flipped := proof
	flipped[31] ^= 1
	for name, ok := range map[string]bool{
		"another key":        verify(stranger.Public(), "join", "transcript", proof[:]),
		"another label":      verify(device.Public(), "leave", "transcript", proof[:]),
		"another transcript": verify(device.Public(), "join", "transcripT", proof[:]),
		"a flipped bit":      verify(device.Public(), "join", "transcript", flipped[:]),
		"cut short":          verify(device.Public(), "join", "transcript", proof[:31]),
		"nothing":            verify(device.Public(), "join", "transcript", nil),
		"no key":             verify(key.Public{}, "join", "transcript", proof[:]),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

// holder has the key where package fmt cannot call its methods.
type holder struct {
	private key.Private
	list    []key.Private
}

// However it is printed, a private key does not show itself.
func TestPrivateNeverPrints(t *testing.T) {
	p := private(t, alicePrivate)
	raw := unhex(t, p.RevealHex())
	var decimal []string
	for _, b := range raw {
		decimal = append(decimal, fmt.Sprint(b))
	}
	secrets := []string{
		p.Reveal(), p.RevealHex(), strings.ToUpper(p.RevealHex()),
		strings.Join(decimal[:4], " "), strings.Join(decimal[:4], ", "), strings.Join(decimal[:4], ","),
		base64.RawURLEncoding.EncodeToString(raw), string(raw[:8]),
		fmt.Sprintf("0x%x, 0x%x, 0x%x", raw[0], raw[1], raw[2]), // in Go's syntax
	}
	check := func(how, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s shows the key: %q", how, text)
			}
		}
	}
	h := holder{p, []key.Private{p}}
	for _, value := range []any{
		p, &p, h, &h,
		[]key.Private{p},
		map[string]key.Private{"k": p},
		map[key.Private]int{p: 1},
		struct{ P key.Private }{p},
		struct{ P *key.Private }{&p},
		fmt.Errorf("with %v", p),
		[1]any{p},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e", "%08.3f", "%p"} {
			check(fmt.Sprintf("%s of %T", verb, value), fmt.Sprintf(verb, value))
		}
		if b, err := json.Marshal(value); err == nil {
			check(fmt.Sprintf("JSON of %T", value), string(b))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", value)
		check(fmt.Sprintf("slog of %T", value), log.String())
	}
	check("String", p.String())
	if p.String() == "" || p.GoString() != p.String() {
		t.Errorf("prints as %q and %q", p.String(), p.GoString())
	}
}

func TestParsePrivate(t *testing.T) {
	p := key.NewPrivate()
	if q, err := key.ParsePrivate(p.Reveal()); err != nil || q != p {
		t.Errorf("round trip: %v", err)
	}
	loose := bytes.Repeat([]byte{0xff}, key.Size)
	q, err := key.ParsePrivate(base64.StdEncoding.EncodeToString(loose))
	if err != nil {
		t.Fatal(err)
	}
	if got := unhex(t, q.RevealHex()); got[0] != 0xf8 || got[31] != 0x7f {
		t.Errorf("not clamped: %x", got)
	}
	zero := base64.StdEncoding.EncodeToString(make([]byte, key.Size))
	for _, s := range []string{"", "x", zero, p.Reveal()[:40], p.Reveal() + "AAAA", p.Reveal() + "\n", p.RevealHex()} {
		q, err := key.ParsePrivate(s)
		if err == nil || !q.IsZero() {
			t.Errorf("%q was taken", s)
		} else if len(s) > 1 && s != zero && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats what may be a secret: %v", err)
		}
	}
	var none key.Private
	if !none.IsZero() || none.RevealHex() != strings.Repeat("0", 64) {
		t.Error("the zero value is a key")
	}
}
