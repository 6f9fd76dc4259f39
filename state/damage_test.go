package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sealed returns a file whose checksum is right, whatever its data.
func sealed(version int, data string) string {
	sum := sha256.Sum256([]byte(data))
	return fmt.Sprintf(`{"format":"nexd state","version":%d,"sha256":"%s","data":%s}`, version, hex.EncodeToString(sum[:]), data)
}

func TestBadFilesAreReportedAndLeftAlone(t *testing.T) {
	whole, err := encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, content, problem, hint string }{
		{"empty", "", "is empty", "restore it from a backup"},
		{"white space", " \n", "is empty", ""},
		{"cut in its first bytes", string(whole[:9]), "is cut off or damaged", "join again"},
		{"cut in half", string(whole[:len(whole)/2]), "is cut off or damaged", ""},
		{"two files in one", string(whole) + string(whole), "is cut off or damaged", ""},
		{"zeros", strings.Repeat("\x00", 100), "is not a state file of nexd", ""},
		{"text", "hello", "is not a state file of nexd", "nothing was changed"},
		{"null", "null", "is not a state file of nexd", ""},
		{"list", "[1]", "is not a state file of nexd", ""},
		{"another program's", `{"version":1,"data":{}}`, "is not a state file of nexd", ""},
		{"no version", sealed(0, "{}"), "is not a state file of nexd", ""},
		{"version as text", `{"format":"nexd state","version":"1"}`, "is not a state file of nexd", ""},
		{"newer", sealed(2, `{"private_key":{"kind":"new"}}`), "newer nexd: version 2, this one reads up to 1", "use that version again"},
		{"changed", strings.Replace(string(whole), "41641", "41642", 1), "checksum does not match", ""},
		{"no data", `{"format":"nexd state","version":1}`, "is cut off or damaged", ""},
		{"port too large", sealed(1, `{"listen_port":65536}`), "holds a value that nexd cannot read", ""},
		{"bad key", sealed(1, `{"private_key":"c2VjcmV0"}`), "holds a key that is none", ""},
		{"bad peer key", sealed(1, `{"hints":[{"peer":"c2VjcmV0"}]}`), "holds a value that nexd cannot read", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, FileName)
			if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, nil)
			var bad *FileError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v", err)
			}
			if bad.File != file || !strings.Contains(bad.Message(), tt.problem) || !strings.Contains(bad.Hint, tt.hint) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), "c2Vj") {
				t.Errorf("a secret in %v", err)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != tt.content {
				t.Errorf("the file became %q (%v)", got, err)
			}
			// The lock is free again: moving the file away is all it takes.
			if err := os.Rename(file, file+".bad"); err != nil {
				t.Fatal(err)
			}
			mustUpdate(t, mustOpen(t, dir), func(d *Data) { d.ListenPort = 1 })
		})
	}
}

// TestEveryTruncationAndEveryFlippedByteIsFound leaves no byte out.
func TestEveryTruncationAndEveryFlippedByteIsFound(t *testing.T) {
	want := sample()
	whole, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if d, err := decode(whole[:n]); err == nil {
			if n != len(whole)-1 { // the newline
				t.Errorf("%d of %d bytes were accepted", n, len(whole))
			}
			same(t, d, want)
		}
	}
	for n := range whole {
		for _, bit := range []byte{1, 0x20, 0x80} {
			spoiled := bytes.Clone(whole)
			spoiled[n] ^= bit
			if d, err := decode(spoiled); err == nil {
				same(t, d, want) // a key's case, or white space
			}
		}
	}
}

func TestThingsThatAreNoFile(t *testing.T) {
	for name, make := range map[string]func(file string) error{
		"directory":  func(file string) error { return os.Mkdir(file, 0o700) },
		"named pipe": func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"dead link":  func(file string) error { return os.Symlink("nowhere", file) },
		"link out":   func(file string) error { return os.Symlink("/etc/hostname", file) },
	} {
		dir := t.TempDir()
		if err := make(filepath.Join(dir, FileName)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, nil)
		var bad *FileError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDirectoriesThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/nexd/state"} {
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--state-dir") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestLeftoversOfACrashAreHarmless(t *testing.T) {
	dir := t.TempDir()
	old, next := sample(), sample()
	next.ListenPort = 1
	s := mustOpen(t, dir)
	mustUpdate(t, s, func(d *Data) { *d = old })
	s.Close()
	whole, err := encode(next)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(whole); n += 97 {
		if err := os.WriteFile(filepath.Join(dir, newName), whole[:n], 0o400); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, s.Data(), old)
		old.ListenPort++
		mustUpdate(t, s, func(d *Data) { d.ListenPort++ })
		s.Close()
	}
	same(t, mustOpen(t, dir).Data(), old)
}
