//go:build linux

package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/test/cluster"
	"nexd/test/need"
	"nexd/test/nginx"
)

// nginxServers has the directory as its argument.
const nginxServers = `
  server {
    listen 127.0.0.1:8080;
    listen [::1]:8080;
    root %[1]s/www;
    location = /whoami { return 200 "$server_addr $server_protocol\n"; }
  }
  server {
    listen 127.0.0.1:8081 http2;
    root %[1]s/www;
    location = /whoami { return 200 "$server_addr $server_protocol\n"; }
  }
`

// startNginx serves dir/www on the node.
func startNginx(t *testing.T, n *cluster.Node, dir string) {
	t.Helper()
	n.Start("nginx", n.CommandAs(n.UID, "nginx", nginx.Args(t, dir, fmt.Sprintf(nginxServers, dir))...))
	awaitTCP(t, n, "127.0.0.1", 8080)
	awaitTCP(t, n, "127.0.0.1", 8081)
}

// randomFile writes size random bytes and returns their SHA-256.
func randomFile(t *testing.T, path string, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.Reader, size); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(0o644); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// TestWeb: nginx behind the ingress, curl before the egress.
func TestWeb(t *testing.T) {
	need.Programs(t, "nginx", "curl", "nc", "sha256sum")
	p := newPair(t,
		[]string{"--ingress", "tcp:80:127.0.0.1:8080", "--ingress", "tcp:81:127.0.0.1:8081", "--ingress", "tcp:82:[::1]:8080"},
		[]string{"--egress", "tcp:8000:server:80", "--egress", "tcp:8001:server.nexd.internal:81", "--egress", "tcp:8002:server:82"})
	dir := p.Dir("nginx", p.server.UID)
	if err := os.MkdirAll(filepath.Join(dir, "www"), 0o755); err != nil {
		t.Fatal(err)
	}
	const gib = 1 << 30
	want := randomFile(t, filepath.Join(dir, "www", "big"), gib)
	startNginx(t, p.server, dir)

	curl := func(args ...string) string {
		return p.client.Run("curl", append([]string{"-sSf", "--max-time", "30"}, args...)...)
	}
	expect := func(what, got, want string) {
		t.Helper()
		if strings.TrimSpace(got) != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	expect("HTTP/1.1 over IPv4 loopback", curl("http://127.0.0.1:8000/whoami"), "127.0.0.1 HTTP/1.1")
	expect("HTTP/1.1 over IPv6 loopback", curl("http://[::1]:8000/whoami"), "127.0.0.1 HTTP/1.1")
	expect("destination on IPv6", curl("http://127.0.0.1:8002/whoami"), "::1 HTTP/1.1")
	expect("HTTP/2", curl("--http2-prior-knowledge", "http://127.0.0.1:8001/whoami"), "127.0.0.1 HTTP/2.0")

	// The device's addresses of both families work inside the mesh.
	p.egress.Ctl("nexd", "proxy", "add", "--egress", "tcp:8004:"+p.ingress.V4()+":80", "--egress", "tcp:8006:["+p.ingress.V6()+"]:80")
	expect("IPv4 inside", curl("http://127.0.0.1:8004/whoami"), "127.0.0.1 HTTP/1.1")
	expect("IPv6 inside", curl("http://127.0.0.1:8006/whoami"), "127.0.0.1 HTTP/1.1")

	got := p.client.RunFor(5*time.Minute, "sh", "-c", "curl -sSf http://127.0.0.1:8000/big | sha256sum")
	expect("checksum of 1 GiB", strings.Fields(got)[0], want)
	p.ingress.Direct("client")
	p.egress.Direct("server")

	st, err := p.egress.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range st.Rules {
		if r.Rule == "tcp:8000:server:80" && r.BytesIn+r.BytesOut < gib {
			t.Errorf("rule %s counted %d bytes in, %d out: fewer than the download", r.Rule, r.BytesIn, r.BytesOut)
		}
	}
}
