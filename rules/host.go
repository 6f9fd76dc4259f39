package rules

import (
	"errors"
	"fmt"
	"strings"
)

// The ways in which a host name is wrong; each ends the sentence `host "x" ...`.
var (
	errNotASCII = errors.New("is not in ASCII")
	errTooLong  = errors.New("is longer than 253 characters")
)

// hostName checks a DNS or device name and returns it in lower case. A dot at
// the end is kept: it keeps the resolver's search list out.
func hostName(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	if len(name) > 253 {
		return "", errTooLong
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return "", errors.New("ends in a number, but is not an IPv4 address")
	}
	return strings.ToLower(s), nil
}

// checkLabel takes RFC 1123 labels, and underscores, which container names have.
func checkLabel(s string) error {
	if s == "" {
		return errors.New("has an empty part between its dots")
	}
	if len(s) > 63 {
		return errors.New("has a part of more than 63 characters")
	}
	for i, r := range s {
		switch {
		case r > 127:
			return errNotASCII
		case r == '-' && (i == 0 || i == len(s)-1):
			return errors.New("has a hyphen at the start or end of a part")
		case !isNameByte(byte(r)) && r != '-':
			return fmt.Errorf("holds the character %q", r)
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// isIPv4Text reports whether s was meant as an IPv4 address: digits and dots.
func isIPv4Text(s string) bool {
	return strings.Contains(s, ".") && strings.Trim(s, "0123456789.") == ""
}

// counted is "1 port" or "11 ports".
func counted(n uint16) string {
	if n == 1 {
		return "1 port"
	}
	return fmt.Sprintf("%d ports", n)
}
