// Package nginx configures an nginx for a test: it stays in the foreground, may
// run as any user, says what is wrong on standard error, and writes into one
// directory alone.
package nginx

import (
	"fmt"
	"os"
	"path/filepath"
)

// frame takes the directory and the directives of http.
const frame = `
daemon off;
error_log stderr;
pid %[1]s/nginx.pid;
worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
%[2]s}
`

// T is what this package wants of a test; testing.TB has it.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Args writes a configuration with these directives of http into dir, and
// returns what to start nginx with. dir is nginx's own, and must be one that its
// user may write.
func Args(t T, dir, http string) []string {
	t.Helper()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, frame, dir, http), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	return []string{"-c", conf, "-p", dir, "-e", "stderr"}
}
