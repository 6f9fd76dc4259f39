package cli

import (
	"log/slog"

	"nexd/internal/logkey"
)

// leveled are the settings of a daemon that takes nothing but its log's level
// from a configuration read again.
type leveled interface {
	load(where places) error
	base() *settings
	logs() *logSettings
}

// relevel is the SIGHUP of such a daemon: it applies a changed log level and
// names what else changed. An error changes nothing.
type relevel[S leveled] struct {
	app     *app
	current S
	fresh   func(env func(string) string) S
	log     *slog.Logger
	level   *slog.LevelVar
}

func (r *relevel[S]) reload() error {
	if path, err := r.current.base().configPath(); err == nil && path == "" {
		r.log.Info("SIGHUP: there is no --config to read again")
		return nil
	}
	next := r.fresh(r.app.env)
	next.base().replay(r.current.base())
	if err := next.load(r.app.places()); err != nil {
		return err
	}
	for _, name := range changed(r.current.base(), next.base()) {
		if name == "log-level" {
			r.level.Set(next.logs().level)
		} else {
			r.log.Warn("a changed setting needs a restart", "setting", name, "source", next.base().byName[name].source)
		}
	}
	r.current = next
	path, _ := next.base().configPath()
	r.log.Info("configuration read again", logkey.File, path)
	return nil
}
