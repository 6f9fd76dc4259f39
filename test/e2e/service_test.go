//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/test/cluster"
	"nexd/test/need"
	"nexd/test/nginx"
)

// Nothing is set for the stream's sake: buffering and timeouts are nginx's own.
const frontServer = `
  server {
    listen %[1]s:9443 ssl;
    ssl_certificate %[2]s/tls.crt;
    ssl_certificate_key %[2]s/tls.key;
    location /mesh/ { proxy_pass https://127.0.0.1:8443%[3]s; }
  }
`

// The service works behind a reverse proxy under a path, whether the proxy
// takes the path off or passes it on, and the stream is not held back.
func TestServiceBehindNginx(t *testing.T) {
	need.Programs(t, "nginx", "curl")
	for name, upstream := range map[string]string{"path taken off": "/", "path passed on": ""} {
		t.Run(name, func(t *testing.T) {
			c := cluster.New(t)
			host := c.Node("svc")
			front := fmt.Sprintf("https://%s:9443/mesh", host.V4)
			svc := c.ServeOn(host, "--public-url", front)
			dir := c.Dir("nginx", host.UID)
			http := fmt.Sprintf(frontServer, host.V4, svc.Dir, upstream)
			host.Start("nginx", host.CommandAs(host.UID, "nginx", nginx.Args(t, dir, http)...))
			awaitTCP(t, host, host.V4.String(), 9443)

			key := svc.RegKey() // through nginx: the admin file names the public URL
			if !strings.HasPrefix(key, front+"#") {
				t.Fatalf("the key names another URL: %.40s", key)
			}
			a := c.Proxy(c.Node("a"), "--reg-key", key).Ready()
			b := c.Proxy(c.Node("b"), "--reg-key", key).Ready()
			a.Direct("b")                // offers came through the stream
			const soon = 5 * time.Second // a heartbeat, which pushes on what is held back, comes after 15 s
			deleted := time.Now()
			svc.Ctl("device", "delete", "b")
			cluster.Until(t, soon, "b is gone", func() error {
				out := a.Ctl("nexd", "peers", "list", "--output", "no-header")
				if strings.Contains(out, "b ") {
					return errors.New(out)
				}
				return nil
			})
			t.Logf("a deletion took %s", time.Since(deleted).Round(time.Millisecond))
			cluster.Until(t, soon, "b knows", func() error {
				st, err := b.Status()
				if err == nil && st.Ready {
					err = errors.New("still ready")
				}
				return err
			})
			if n := strings.Count(a.Log(), "watch stream connected"); n != 1 {
				t.Errorf("%d streams: nginx cuts them", n)
			}
		})
	}
}

// What an operator gets wrong: the service says what, and makes nothing.
func TestServiceDoesNotStart(t *testing.T) {
	c := cluster.New(t)
	svc := c.Serve()
	other := func() string { return c.Dir("other", svc.Node.UID) }
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"port in use", []string{"--listen", ":8443"}, 1, "hint: stop that program, or choose another port"},
		{"STUN port in use", []string{"--listen", ":9443", "--stun-listen", ":3478"}, 1, "--stun-listen :3478: the port is in use"},
		{"privileged port", []string{"--listen", ":443", "--stun-listen", "off"}, 1, "port 443 needs privileges"},
		{"no such address", []string{"--listen", "203.0.113.9:9443", "--stun-listen", "off"}, 1, "no address 203.0.113.9"},
		{"no such certificate", []string{"--tls-cert", "/no/such", "--tls-key", "/no/such"}, 2, "/no/such"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := other()
			args := append([]string{"serve", "--state-dir", dir}, tc.args...)
			tryNexd(t, svc.Node, args...).want(t, tc.name, tc.code, tc.want)
			if _, err := os.Stat(filepath.Join(dir, "admin.json")); err == nil {
				t.Error("it made an admin file")
			}
		})
	}
	svc.Ctl("device", "list") // the one that runs is not disturbed
}
