package control

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// Two services with directories of their own do not share a database: neither
// would tell its devices what the other changed.
func TestSecondServiceOnTheSameDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shared.db")
	config := func() Config {
		cfg := testConfig(t.TempDir())
		cfg.DatabaseURL = "sqlite://" + file
		return cfg
	}
	first, err := New(config())
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(config())
	if err == nil {
		second.Close()
		t.Fatal("a second service uses the database of the first")
	}
	var start *StartError
	if !errors.As(err, &start) || !strings.Contains(start.Message, file) || start.Advice == "" {
		t.Errorf("refused with %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := New(config())
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	again.Close()
}
