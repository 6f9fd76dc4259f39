package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A database that was restored with the mode of somebody's umask is private
// again: it holds the keys of the service.
func TestRestoredDatabaseIsMadePrivate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "control.db")
	s, err := OpenSQLite(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenSQLite(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.PutSetting(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + "-wal", file + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has the mode %o", name, mode)
		}
	}
}
