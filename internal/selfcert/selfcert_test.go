package selfcert

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func filesIn(dir string) Files {
	return Files{Cert: filepath.Join(dir, "c.crt"), Key: filepath.Join(dir, "c.key")}
}

func mustMake(t *testing.T, files Files, names ...string) *Certificate {
	t.Helper()
	c, err := Make(files, Own{Subject: "test", Names: names, Lost: "then it is lost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serial(c *Certificate) string { return c.Leaf().SerialNumber.String() }

func TestTheKeyStaysWhateverTheCertificateDoes(t *testing.T) {
	files := filesIn(t.TempDir())
	first := mustMake(t, files, "relay.example.com", "192.0.2.1", "::", "fe80::1%eth0", "bücher.example", "")
	leaf := first.Leaf()
	for _, name := range []string{"relay.example.com", "192.0.2.1", "fe80::1", "localhost", "127.0.0.1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if got, _ := first.Get(nil); got.Leaf != leaf || leaf.Subject.CommonName != "test" {
		t.Errorf("shows %v", got.Leaf.Subject)
	}
	again := mustMake(t, files, "192.0.2.1", "fe80::1", "RELAY.example.com")
	if serial(again) != serial(first) {
		t.Error("the same names made another certificate")
	}
	renamed := mustMake(t, files, "other.example.com")
	if serial(renamed) == serial(first) || !bytes.Equal(renamed.SPKI(), first.SPKI()) {
		t.Error("other names want another certificate of the same key")
	}
	if err := renamed.refresh(time.Now()); err != nil || serial(renamed) != serial(mustMake(t, files, "other.example.com")) {
		t.Errorf("renewed too early: %v", err)
	}
	was := serial(renamed)
	if err := renamed.refresh(time.Now().Add(life - renew)); err != nil || serial(renamed) == was || !bytes.Equal(renamed.SPKI(), first.SPKI()) {
		t.Errorf("not renewed in time, or with another key: %v", err)
	}
	for _, damage := range []string{"", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(files.Cert, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if c := mustMake(t, files, "other.example.com"); !bytes.Equal(c.SPKI(), first.SPKI()) {
			t.Error("another key")
		}
	}
}

func TestADamagedKeyIsKept(t *testing.T) {
	files := filesIn(t.TempDir())
	mustMake(t, files)
	for _, damage := range []string{"", "nothing", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(files.Key, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Make(files, Own{Lost: "then it is lost"}, nil)
		if err == nil || !strings.Contains(err.Error(), files.Key) || !strings.Contains(err.Error(), "then it is lost") {
			t.Errorf("%q: %v", damage, err)
		}
		if b, _ := os.ReadFile(files.Key); string(b) != damage {
			t.Error("the key was written over")
		}
	}
}

func TestGivenFilesAreReadAgain(t *testing.T) {
	one, two := filesIn(t.TempDir()), filesIn(t.TempDir())
	mustMake(t, one, "one.example.com")
	mustMake(t, two, "two.example.com")
	var lines bytes.Buffer
	c, err := Load(one, slog.New(slog.NewTextHandler(&lines, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if c.SPKI() != nil || !slices.Contains(c.Leaf().DNSNames, "one.example.com") {
		t.Errorf("pin %x of %v", c.SPKI(), c.Leaf().DNSNames)
	}
	if c.ServeAs("one.example.com"); lines.Len() > 0 {
		t.Errorf("a fitting certificate: %s", &lines)
	}
	if err := c.refresh(time.Now()); err != nil || lines.Len() > 0 {
		t.Errorf("nothing changed: %v, %s", err, &lines)
	}

	// Half of a change is no change.
	copyFile(t, two.Cert, one.Cert)
	if err := c.refresh(time.Now()); err == nil || !slices.Contains(c.Leaf().DNSNames, "one.example.com") {
		t.Errorf("another's key was taken: %v", err)
	}
	copyFile(t, two.Key, one.Key)
	if err := c.refresh(time.Now()); err != nil || !slices.Contains(c.Leaf().DNSNames, "two.example.com") {
		t.Errorf("not reloaded: %v", err)
	}
	if !strings.Contains(lines.String(), "not for the host") || !strings.Contains(lines.String(), "host=one.example.com") {
		t.Errorf("no warning: %s", &lines)
	}
	lines.Reset()
	if c.warn(time.Now().Add(2 * life)); !strings.Contains(lines.String(), "is over") {
		t.Errorf("no warning: %s", &lines)
	}
	lines.Reset()
	if c.warn(time.Now().Add(-2 * before)); !strings.Contains(lines.String(), "not valid yet") {
		t.Errorf("no warning: %s", &lines)
	}
	if _, err := Load(Files{Cert: one.Cert, Key: "/no/such"}, nil); err == nil {
		t.Error("loaded what is not there")
	}
}

// copyFile gives the copy a size of its own, so that the change shows whatever
// the clock of the file system does.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, append(b, "\n\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
}
