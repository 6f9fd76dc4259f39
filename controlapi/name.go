package controlapi

import (
	"fmt"
	"strings"
)

// DefaultDomain is the suffix of device names.
const DefaultDomain = "nexd.internal"

// CheckName reports why s cannot be a device name: a lower-case DNS label
// (RFC 1123), 1 to 63 characters.
func CheckName(s string) error {
	if s == "" {
		return fmt.Errorf("device name is empty: want letters, digits and hyphens")
	}
	if len(s) > 63 {
		return fmt.Errorf("device name %q is longer than 63 characters", s[:63]+"…")
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return fmt.Errorf("device name %q: want lower-case letters, digits and inner hyphens", s)
		}
	}
	return nil
}

// CleanName makes a device name of a host name: the first label, lower case,
// anything else turned into a hyphen. It returns "" when nothing is left.
func CleanName(host string) string {
	host, _, _ = strings.Cut(host, ".")
	var b strings.Builder
	for _, r := range strings.ToLower(host) {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	s := b.String()
	if len(s) > 63 {
		s = s[:63]
	}
	return strings.Trim(s, "-")
}
