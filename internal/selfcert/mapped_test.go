package selfcert

import (
	"bytes"
	"path/filepath"
	"testing"
)

// An IPv4 address in IPv6's form is the IPv4 address, in a certificate as well:
// the next start finds the one there is.
func TestMappedAddressKeepsItsCertificate(t *testing.T) {
	dir := t.TempDir()
	files := Files{Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}
	var made [][]byte
	for range 2 {
		c, err := Make(files, Own{Subject: "test", Names: []string{"::ffff:192.0.2.1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, c.Leaf().Raw)
		if err := c.Leaf().VerifyHostname("192.0.2.1"); err != nil {
			t.Error(err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("each start makes another certificate")
	}
}
