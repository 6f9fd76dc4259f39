package controlapi

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469), in
// unpadded base64url; empty where the certificate is checked the usual way.
type Pin string

// PinOf returns the pin of a DER-encoded SubjectPublicKeyInfo.
func PinOf(spki []byte) Pin {
	sum := sha256.Sum256(spki)
	return Pin(base64.RawURLEncoding.EncodeToString(sum[:]))
}

// Matches reports whether the pin is that of spki.
func (p Pin) Matches(spki []byte) bool { return p == PinOf(spki) }

// check reports whether a pin that is not empty has the form of one.
func (p Pin) check() error {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(string(p)); p != "" && (err != nil || len(raw) != sha256.Size) {
		return errors.New("certificate pin: want the SHA-256 of the key in unpadded base64url, 43 characters")
	}
	return nil
}

// RegKey is a registration key: everything a device needs to join. Its text is
//
//	https://HOST:PORT#SECRET        certificate checked by the system's authorities
//	https://HOST:PORT#SECRET.PIN    certificate pinned
type RegKey struct {
	ServiceURL string
	Secret     string
	Pin        Pin
}

// String is the text form; it contains the secret.
func (k RegKey) String() string {
	s := k.ServiceURL + "#" + k.Secret
	if k.Pin != "" {
		s += "." + string(k.Pin)
	}
	return s
}

// ParseRegKey reads the text form. The secret is never repeated in an error.
// A key without a URL ("SECRET" or "SECRET.PIN") is accepted; the caller then
// needs the URL from elsewhere.
func ParseRegKey(s string) (RegKey, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return RegKey{}, errors.New("registration key is empty")
	}
	var k RegKey
	rest := s
	if at := strings.IndexByte(s, '#'); at >= 0 {
		base, err := ParseServiceURL(s[:at])
		if err != nil {
			return RegKey{}, fmt.Errorf("registration key: %w", err)
		}
		k.ServiceURL, rest = base, s[at+1:]
	} else if strings.Contains(s, "://") {
		return RegKey{}, errors.New("registration key ends before its secret: it is URL#SECRET.PIN in one piece (quote it: a shell may take # for a comment)")
	}
	secret, pin, hasPin := strings.Cut(rest, ".")
	if secret == "" || strings.ContainsAny(secret, " \t\r\n/#") {
		return RegKey{}, errors.New("registration key has no secret: it is URL#SECRET.PIN in one piece")
	}
	if len(secret) > 256 {
		return RegKey{}, errors.New("registration key: secret longer than 256 characters")
	}
	if hasPin {
		k.Pin = Pin(pin)
		if k.Pin == "" || k.Pin.check() != nil {
			return RegKey{}, errors.New("registration key: its certificate pin is cut or changed: copy the whole key")
		}
	}
	k.Secret = secret
	return k, nil
}

// ParseServiceURL checks a service URL and returns it without a trailing
// slash. A path is kept: the service may stand behind a reverse proxy.
func ParseServiceURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("service URL %q: want https://HOST:PORT", shown(s))
	case u.Scheme == "http" && u.User == nil:
		return "", fmt.Errorf("service URL %q is not encrypted: use https://%s", shown(s), shown(u.Host))
	case u.Scheme != "https" || u.Hostname() == "" || !portFits(u.Port()):
		return "", fmt.Errorf("service URL %q: want https://HOST:PORT", shown(s))
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("service URL %q: want https://HOST:PORT with nothing behind it", shown(s))
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// portFits reports whether text is a port, or absent.
func portFits(text string) bool {
	if text == "" {
		return true
	}
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port != 0
}

// shown makes a mistyped URL fit for an error: short, and without a password.
func shown(s string) string {
	scheme, rest, ok := strings.Cut(s, "//")
	if !ok {
		scheme, rest = "", s
	} else {
		scheme += "//"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = "…" + rest[at:]
	}
	s = scheme + rest
	const most = 100 // four times that once quoted, if none of it can be printed
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
