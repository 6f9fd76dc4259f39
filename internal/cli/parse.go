package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"nexd/rules"
)

// The parsers of settings: their errors say what to write instead.

func parseText(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", errors.New("it is empty")
	}
	return s, nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, errors.New("want true or false")
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, errors.New("want a port from 0 to 65535")
	}
	return uint16(n), nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, errors.New("want a whole number")
	}
	return n, nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, errors.New("want an IP address")
	}
	return a, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New("want a range such as 100.64.0.0/10")
	}
	return p, nil
}

// parseDuration takes Go's durations and whole days.
func parseDuration(s string) (time.Duration, error) {
	var (
		d   time.Duration
		err error
	)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d < 0 {
		return 0, errors.New("want a duration such as 10s, 5m, 24h or 7d")
	}
	return d, nil
}

// levels are the names of log levels, in rising order.
var levels = []string{"debug", "info", "warn", "error"}

func parseLevel(s string) (slog.Level, error) {
	for i, name := range levels {
		if strings.EqualFold(s, name) {
			return slog.LevelDebug + slog.Level(4*i), nil
		}
	}
	return 0, errors.New("want debug, info, warn or error")
}

// oneOf returns a parser of fixed words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		for _, w := range words {
			if strings.EqualFold(s, w) {
				return w, nil
			}
		}
		return "", fmt.Errorf("want %s", strings.Join(words, " or "))
	}
}

func parseRule(d rules.Direction) func(string) (rules.Spec, error) {
	return func(s string) (rules.Spec, error) { return rules.Parse(d, s) }
}

func asRuleError(err error) (*rules.Error, bool) {
	var e *rules.Error
	ok := errors.As(err, &e)
	return e, ok
}

// maxSecret is the largest secret file, in bytes.
const maxSecret = 64 << 10

// readSecret reads a secret from a file; white space around it is dropped.
func readSecret(path string) (string, error) {
	b, err := readFile(path, maxSecret)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("file %s is empty", path)
	}
	return s, nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("file %s is larger than %d bytes", path, limit)
	}
	return b, nil
}
