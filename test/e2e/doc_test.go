//go:build linux

// Package e2e sees the main job done by the real binaries for real programs:
// web, database, cache, name server, file copy and raw streams go through two
// unprivileged proxies, and the parts are killed, restarted and fed nonsense.
package e2e

import (
	"os"
	"testing"

	"nexd/test/cluster"
)

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.RemoveBinaries()
	os.Exit(code)
}
