package controlapi_test

import (
	"net/url"
	"strings"
	"testing"

	"nexd/controlapi"
)

var pin = controlapi.PinOf([]byte("a SubjectPublicKeyInfo"))

// FuzzParseRegKey: what was read reads the same when written, and no error
// repeats the secret.
func FuzzParseRegKey(f *testing.F) {
	f.Add("https://svc:8443#s3cret." + string(pin))
	f.Add("https://svc:8443/base/#s3cret")
	f.Add("https://[fd00::1]:8443#s3cret")
	f.Add("s3cret")
	f.Add("s3cret." + string(pin))
	f.Add(" https://svc#s3cret.\n")
	f.Add("http://svc#s3cret")
	f.Add("https://svc/%2f#s3cret")
	f.Add("https://svc#s#t")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := controlapi.ParseRegKey(s)
		if err != nil {
			if k != (controlapi.RegKey{}) {
				t.Errorf("an error and a key: %+v", k)
			}
			if strings.Contains(s, "s3cret") && strings.Contains(err.Error(), "s3cret") {
				// Only what stands before # may be repeated.
				if before, _, _ := strings.Cut(s, "#"); !strings.Contains(before, "s3cret") {
					t.Errorf("the error repeats the secret: %v", err)
				}
			}
			return
		}
		if k.Secret == "" {
			t.Error("no secret")
		}
		text := k.String()
		if k.ServiceURL == "" {
			text = strings.TrimPrefix(text, "#") // a key without a URL is written so
		}
		again, err := controlapi.ParseRegKey(text)
		if err != nil || again != k {
			t.Errorf("%q is %+v, written %q, which is %+v (%v)", s, k, text, again, err)
		}
	})
}

// FuzzParseServiceURL: reading again changes nothing, and nothing but an HTTPS
// URL gets through.
func FuzzParseServiceURL(f *testing.F) {
	for _, s := range []string{
		"https://svc", "https://svc:8443/", "HTTPS://svc/a/b//", "https://[::1]:1", "http://svc", "svc:8443", "", "https://",
		"https://u:p@svc", "https://svc?x", "https://svc#x", "https://svc/?", "https://a b", "https://svc/%zz", "https://svc:99999", "https://:8443", "//svc",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := controlapi.ParseServiceURL(s)
		if err != nil {
			if u != "" {
				t.Errorf("an error and %q", u)
			}
			return
		}
		parsed, err := url.Parse(u)
		if err != nil || parsed.User != nil || !strings.HasPrefix(u, "https://") || strings.HasSuffix(u, "/") || strings.ContainsAny(u, "?# \n") {
			t.Errorf("%q became %q (%v)", s, u, err)
		}
		if again, err := controlapi.ParseServiceURL(u); err != nil || again != u {
			t.Errorf("%q became %q and then %q (%v)", s, u, again, err)
		}
	})
}

func TestParseRegKey(t *testing.T) {
	for _, tc := range []struct {
		text string
		want controlapi.RegKey
	}{
		{"https://svc:8443#abc." + string(pin), controlapi.RegKey{ServiceURL: "https://svc:8443", Secret: "abc", Pin: pin}},
		{"\t https://svc:8443/#abc \n", controlapi.RegKey{ServiceURL: "https://svc:8443", Secret: "abc"}},
		{"https://svc/mesh/#abc", controlapi.RegKey{ServiceURL: "https://svc/mesh", Secret: "abc"}},
		{"abc", controlapi.RegKey{Secret: "abc"}},
		{"abc." + string(pin), controlapi.RegKey{Secret: "abc", Pin: pin}},
	} {
		if got, err := controlapi.ParseRegKey(tc.text); err != nil || got != tc.want {
			t.Errorf("%q: %+v, %v", tc.text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                     "is empty",
		" \n":                                  "is empty",
		"https://svc:8443":                     "ends before its secret",
		"https://svc:8443#":                    "has no secret",
		"https://svc:8443#." + string(pin):     "has no secret",
		"https://svc:8443#a b":                 "has no secret",
		"http://svc:8080#abc":                  "not encrypted: use https://svc:8080",
		"svc:8443#abc":                         "want https://HOST:PORT",
		"https://svc#abc.":                     "pin is cut or changed",
		"https://svc#abc." + string(pin)[1:]:   "pin is cut or changed",
		"https://svc#abc." + string(pin) + "A": "pin is cut or changed",
		"https://svc#" + strings.Repeat("a", 257): "longer than 256",
	} {
		if _, err := controlapi.ParseRegKey(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want …%s…", text, err, want)
		}
	}
}

func TestParseServiceURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://svc":            "https://svc",
		"https://svc/":           "https://svc",
		"https://svc:8443//":     "https://svc:8443",
		"https://svc/mesh/":      "https://svc/mesh",
		"HTTPS://svc":            "https://svc",
		"https://[fd00::1]:8443": "https://[fd00::1]:8443",
	} {
		if got, err := controlapi.ParseServiceURL(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"":                  "want https://HOST:PORT",
		"svc":               "want https://HOST:PORT",
		"svc:8443":          "want https://HOST:PORT",
		"ftp://svc":         "want https://HOST:PORT",
		"https://":          "want https://HOST:PORT",
		"https://:8443":     "want https://HOST:PORT",
		"https://svc:port":  "want https://HOST:PORT",
		"http://svc:8080":   "not encrypted: use https://svc:8080",
		"https://me:pw@svc": "nothing behind it",
		"me:pw@svc":         "want https://HOST:PORT",
		"http://me:pw@svc":  "want https://HOST:PORT",
		"https://me:pw@s:x": "want https://HOST:PORT",
		"https://svc?a=b":   "nothing behind it",
		"https://svc/#abc":  "nothing behind it",
		"https://svc:0":     "want https://HOST:PORT",
		"https://svc:65536": "want https://HOST:PORT",
		"https://svc/?":     "nothing behind it",
	} {
		got, err := controlapi.ParseServiceURL(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want …%s…", in, got, err, want)
		} else if strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the error repeats a password: %v", in, err)
		}
	}
}

func TestPin(t *testing.T) {
	if !pin.Matches([]byte("a SubjectPublicKeyInfo")) || pin.Matches([]byte("another")) || controlapi.Pin("").Matches(nil) {
		t.Error("Matches does not compare")
	}
}
