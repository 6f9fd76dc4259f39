package cli

import (
	"log/slog"
	"slices"

	"nexd/internal/logkey"
	"nexd/node"
	"nexd/rules"
)

// reloader reads the configuration again at SIGHUP. Only one reload runs at a time.
type reloader struct {
	app     *app
	current *proxySettings
	node    interface{ Reload([]rules.Spec) error }
	log     *slog.Logger
	level   *slog.LevelVar
}

var _ interface{ Reload([]rules.Spec) error } = (*node.Node)(nil)

// reload applies what can change while running: rules and the log level. What
// else changed is named; it needs a restart. An error changes nothing.
func (r *reloader) reload() error {
	if path, err := r.current.configPath(); err == nil && path == "" {
		r.log.Info("SIGHUP: there is no --config to read again")
		return nil
	}
	next := newProxySettings(r.app.env)
	next.replay(r.current.settings)
	if err := next.load(r.app.places()); err != nil {
		return err
	}
	if err := r.node.Reload(next.node.Rules); err != nil {
		return err
	}
	for _, name := range changed(r.current.settings, next.settings) {
		switch name {
		case "ingress", "egress":
		case "log-level":
			r.level.Set(next.log.level)
		default:
			r.log.Warn("a changed setting needs a restart", "setting", name, "source", next.byName[name].source)
		}
	}
	r.current = next
	r.log.Info("configuration read again", logkey.Count, len(next.node.Rules))
	return nil
}

// changed names the settings whose value differs.
func changed(a, b *settings) []string {
	var names []string
	for _, st := range a.list {
		if !slices.Equal(st.raws, b.byName[st.name].raws) {
			names = append(names, st.name)
		}
	}
	return names
}
