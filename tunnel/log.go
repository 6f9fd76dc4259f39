package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"nexd/internal/logkey"
)

// Lines of one kind in one window; more are only counted, since some of
// WireGuard's lines can be provoked by any packet from outside.
const (
	logWindow = 10 * time.Second
	logLines  = 20
)

// quiet are lines WireGuard logs as errors although they are everyday life, or
// are returned to the caller as well.
var quiet = map[string]bool{
	"%v":                        true, // an error of a configuration we get returned
	"Unable to update bind: %v": true, // returned by Up
	"%v - Failed to send handshake initiation: %v": true,
	"%v - Failed to send handshake response: %v":   true,
	"%v - Failed to send data packets: %v":         true,
	"%v - Failed to derive keypair: %v":            true,
	"%v - Failed to create initiation message: %v": true,
	"%v - Failed to create response message: %v":   true,
}

// logger passes WireGuard's lines to slog.
type logger struct {
	log *slog.Logger

	mu    sync.Mutex // guards the field below
	kinds map[string]*logKind
}

type logKind struct {
	since time.Time
	lines int
}

// newLogger makes WireGuard's logger: verbose lines at debug, errors at warn
// unless they are in quiet.
func newLogger(log *slog.Logger) *device.Logger {
	l := &logger{log: log, kinds: make(map[string]*logKind)}
	return &device.Logger{
		Verbosef: func(format string, args ...any) { l.printf(slog.LevelDebug, format, args) },
		Errorf: func(format string, args ...any) {
			level := slog.LevelWarn
			if quiet[format] {
				level = slog.LevelDebug
			}
			l.printf(level, format, args)
		},
	}
}

func (l *logger) printf(level slog.Level, format string, args []any) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	ok, missed := l.admit(format, time.Now())
	if missed > 0 {
		l.log.Log(ctx, level, "wireguard: lines left out", logkey.Task, "wireguard", logkey.Reason, format, logkey.Count, missed)
	}
	if ok {
		l.log.Log(ctx, level, fmt.Sprintf(format, args...), logkey.Task, "wireguard")
	}
}

// admit reports whether a line of this kind is within its number, and how many
// were left out in the window that has just ended. The kinds are WireGuard's
// format strings, so there are few of them.
func (l *logger) admit(format string, now time.Time) (ok bool, missed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[format]
	if k == nil {
		k = &logKind{since: now}
		l.kinds[format] = k
	}
	if now.Sub(k.since) > logWindow {
		missed = max(0, k.lines-logLines)
		k.since, k.lines = now, 0
	}
	k.lines++
	return k.lines <= logLines, missed
}
