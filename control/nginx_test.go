package control

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"nexd/controlapi"
	"nexd/relay"
	"nexd/test/need"
	"nexd/test/nginx"
)

// What a reverse proxy needs for the relay: that it passes the upgrade on. The
// rest is nginx's own.
const nginxServer = `
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server {
    listen %[1]s ssl;
    ssl_certificate %[2]s/tls.crt;
    ssl_certificate_key %[2]s/tls.key;
    location /mesh/ {
      proxy_pass https://%[3]s%[4]s;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }
  }
`

// What docs/operate.md tells operators to write is what is tried below.
func TestTheManualsNginxIsTheTestedOne(t *testing.T) {
	page, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```nginx\n")
	block, _, _ := strings.Cut(rest, "```")
	lines := 0
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "proxy_pass ") || strings.HasPrefix(line, "location ") || len(line) < 2 {
			continue
		}
		if lines++; !strings.Contains(nginxServer, line) {
			t.Errorf("%s is not tried", line)
		}
	}
	if lines != 4 {
		t.Errorf("%d lines found in the manual", lines)
	}
}

// The relay's WebSocket, the list of relays, homes and signals work behind nginx
// under a path, whether nginx takes the path off or passes it on.
func TestRelayBehindNginx(t *testing.T) {
	need.Programs(t, "nginx")
	for name, upstream := range map[string]string{"path taken off": "/", "path passed on": ""} {
		t.Run(name, func(t *testing.T) {
			front := fmt.Sprintf("127.0.0.1:%d", need.Port(t))
			w := start(t, t.TempDir(), func(c *Config) { c.STUNListen, c.PublicURL = stunOff, "https://"+front+"/mesh" })
			var said bytes.Buffer
			child := exec.Command("nginx", nginx.Args(t, t.TempDir(), fmt.Sprintf(nginxServer, front, w.dir, w.svc.Addr(), upstream))...)
			child.Stderr = &said
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				child.Process.Signal(os.Interrupt)
				child.Wait()
				if t.Failed() {
					t.Logf("nginx: %s", said.Bytes())
				}
			})
			eventually(t, "nginx listens", func() bool {
				c, err := tls.Dial("tcp", front, &tls.Config{InsecureSkipVerify: true})
				if err == nil {
					c.Close()
				}
				return err == nil
			})
			w.base, w.nginx = "https://"+front+"/mesh", true
			secret := w.regKey(controlapi.RegKeyRequest{})
			a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
			_, listA := w.told(a)
			sb, listB := w.told(b)
			ra, rb := w.relay(a, listA, false), w.relay(b, listB, false)
			ra.reaches(t, rb, "through nginx")
			rb.reaches(t, ra, "and back")
			ra.connected(t, relay.TLS)
			if p, _ := w.send("PUT", "/v1/self/relays", a.Credential, controlapi.Homes{Relays: []string{listA.Relays[0].ID}}, nil); p != nil {
				t.Error(p)
			}
			if d := sb.expect(controlapi.EventDelta).Delta; len(d.Upsert) != 1 || len(d.Upsert[0].Relays) != 1 {
				t.Errorf("b is told %+v", d)
			}
			var out controlapi.SignalResult
			if p, _ := w.send("POST", "/v1/signals", a.Credential, controlapi.Signal{To: b.private.Public(), Payload: []byte("offer")}, &out); p != nil || !out.Delivered {
				t.Errorf("signal: %v", p)
			}
			sb.expect(controlapi.EventSignal)
			ra.stop()
			rb.stop()
			w.http.Transport.(*http.Transport).CloseIdleConnections()
		})
	}
}
