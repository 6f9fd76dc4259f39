package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// maxSocketPath is the longest path a unix socket address holds on Linux, in bytes.
const maxSocketPath = 107

// DefaultDir returns the state directory of this user: /var/lib/nexd for root,
// $XDG_STATE_HOME/nexd or $HOME/.local/state/nexd for others. It makes nothing.
func DefaultDir() (string, error) { return defaultDir(os.Geteuid(), os.Getenv) }

func defaultDir(uid int, getenv func(string) string) (string, error) {
	if uid == 0 {
		return "/var/lib/nexd", nil
	}
	// The XDG base directory specification ignores relative paths.
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "nexd"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "nexd"), nil
	}
	return "", errors.New("no place for the state: neither HOME nor XDG_STATE_HOME is set: choose one with --state-dir, or keep nothing with --ephemeral")
}

// DefaultSocket returns where the daemon of this user listens for nexctl:
// /run/nexd/nexd.sock for root, $XDG_RUNTIME_DIR/nexd.sock for others, else
// nexd.sock in the state directory, which is empty for an ephemeral node.
func DefaultSocket(stateDir string) (string, error) {
	return defaultSocket(os.Geteuid(), os.Getenv, stateDir)
}

func defaultSocket(uid int, getenv func(string) string, stateDir string) (string, error) {
	if uid == 0 {
		return "/run/nexd/nexd.sock", nil
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		path := filepath.Join(dir, "nexd.sock")
		return path, CheckSocket(path)
	}
	if stateDir == "" {
		return "", errors.New("no place for the socket: XDG_RUNTIME_DIR is not set and there is no state directory: choose one with --unix-socket")
	}
	path := filepath.Join(stateDir, "nexd.sock")
	return path, CheckSocket(path)
}

// CheckSocket reports a path that is too long for a unix socket.
func CheckSocket(path string) error {
	if len(path) <= maxSocketPath {
		return nil
	}
	return fmt.Errorf("socket path %s has %d bytes, at most %d are possible: choose a shorter one with --unix-socket", path, len(path), maxSocketPath)
}

// Exists reports whether dir holds the state of a node. It makes nothing and
// does not say that the state can be read, or that the node has joined.
func Exists(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, FileName))
	return err == nil && info.Mode().IsRegular()
}
