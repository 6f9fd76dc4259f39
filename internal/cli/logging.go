package cli

import (
	"io"
	"log/slog"
)

// logSettings are the two settings every daemon has for its log.
type logSettings struct {
	level  slog.Level
	format string
}

func (l *logSettings) declare(s *settings) {
	option(s, &l.level, "log-level", "LEVEL", "least level of the log: debug, info, warn or error", parseLevel).Default("info")
	option(s, &l.format, "log-format", "FORMAT", "form of the log: text or json", oneOf("text", "json")).Default("text")
}

// open returns a logger that writes to w, and the level that can be changed.
func (l *logSettings) open(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(l.level)
	options := &slog.HandlerOptions{Level: level}
	if l.format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}
