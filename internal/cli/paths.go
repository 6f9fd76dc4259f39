package cli

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// places finds the default files of a user. Nothing but uid and environment is
// looked at: there may be no passwd entry and no home.
type places struct {
	uid int
	env func(string) string
}

func (a *app) places() places { return places{uid: os.Getuid(), env: a.env} }

// stateDir returns the default state directory, or "" when there is none.
func (p places) stateDir() string {
	if p.uid == 0 {
		return "/var/lib/nexd"
	}
	if dir := p.env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "nexd")
	}
	if home := p.env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "nexd")
	}
	return ""
}

// sockets returns where the daemon's socket may be, in the order of preference.
func (p places) sockets(stateDir string) []string {
	var paths []string
	if p.uid == 0 {
		paths = append(paths, "/run/nexd/nexd.sock")
	} else if dir := p.env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		paths = append(paths, filepath.Join(dir, "nexd.sock"))
	}
	if stateDir != "" {
		paths = append(paths, filepath.Join(stateDir, "nexd.sock"))
	}
	return paths
}

// daemonSocket picks the first place where a socket can be made, or "" when
// there is none: then the node runs without one.
func (p places) daemonSocket(stateDir string) string {
	for _, path := range p.sockets(stateDir) {
		dir := filepath.Dir(path)
		if dir == p.env("XDG_RUNTIME_DIR") && !isDir(dir) {
			continue // made by the session, never by us
		}
		if canHold(dir) {
			return path
		}
	}
	return ""
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// canHold reports whether files can be made in dir, or dir itself below the
// nearest directory that is there. Nothing is made yet.
func canHold(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err == nil {
			return info.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return false
		}
		dir = parent
	}
}

// clientSocket picks the first socket that is there, or the first place of all.
func (p places) clientSocket() string {
	stateDir := p.env("NEXD_STATE_DIR")
	if stateDir == "" {
		stateDir = p.stateDir()
	}
	paths := p.sockets(stateDir)
	for _, path := range paths {
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
			return path
		}
	}
	if len(paths) == 0 {
		return ""
	}
	return paths[0]
}

// adminFile returns where nexd serve leaves the administrator's credential.
func (p places) adminFile() string {
	dir := p.env("NEXD_STATE_DIR")
	if dir == "" {
		dir = p.stateDir()
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "admin.json")
}
