//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nexd/test/cluster"
	"nexd/test/need"
)

// pgTool finds a PostgreSQL server program, which Debian keeps out of PATH.
func pgTool(t *testing.T, name string) string {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		need.Missing(t, "PostgreSQL server program "+name)
	}
	return path
}

// TestPostgres: psql and pgbench through both proxies.
func TestPostgres(t *testing.T) {
	need.Programs(t, "psql", "nc")
	initdb, postgres, pgbench := pgTool(t, "initdb"), pgTool(t, "postgres"), pgTool(t, "pgbench")
	p := newPair(t,
		[]string{"--ingress", "tcp:5432:127.0.0.1:5432"},
		[]string{"--egress", "tcp:5432:server:5432"})
	uid := p.server.UID
	if u, err := user.Lookup("postgres"); err == nil {
		uid, _ = strconv.Atoi(u.Uid) // PostgreSQL wants a user with a name
	}
	dir := p.Dir("postgres", uid)
	if out, err := p.server.CommandAs(uid, initdb, "-D", dir+"/data", "-A", "trust", "-U", "app", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.server.Start("postgres", p.server.CommandAs(uid, postgres, "-D", dir+"/data", "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"))
	awaitTCP(t, p.server, "127.0.0.1", 5432)

	const dsn = "host=127.0.0.1 port=5432 user=app dbname=postgres connect_timeout=10"
	cluster.Until(t, 20*time.Second, "database answers", func() error {
		out, err := p.client.Try(10*time.Second, "psql", dsn, "-Atc", "select 6*7")
		if err == nil && strings.TrimSpace(out) != "42" {
			err = fmt.Errorf("got %q", out)
		}
		return err
	})
	// A million rows each way by COPY: bulk in both directions, unchanged.
	out := p.client.RunFor(2*time.Minute, "sh", "-c", fmt.Sprintf(
		`set -e; seq 1 1000000 | sha256sum
psql -q "%[1]s" -c 'create table t(n int)'
seq 1 1000000 | psql -q "%[1]s" -c 'copy t from stdin'
psql "%[1]s" -qAtc 'copy t to stdout' | sha256sum`, dsn))
	if sums := strings.Fields(out); len(sums) != 4 || sums[0] != sums[2] {
		t.Errorf("rows copied in and out differ:\n%s", out)
	}
	p.client.RunFor(2*time.Minute, pgbench, "-h", "127.0.0.1", "-U", "app", "-i", "-s", "1", "-q", "postgres")
	out = p.client.RunFor(2*time.Minute, pgbench, "-h", "127.0.0.1", "-U", "app", "-c", "8", "-j", "2", "-T", "5", "postgres")
	if !strings.Contains(out, "number of failed transactions: 0") {
		t.Errorf("pgbench:\n%s", out)
	}
}

// TestRedis: redis-benchmark with pipelines and large values.
func TestRedis(t *testing.T) {
	need.Programs(t, "redis-server", "redis-benchmark", "redis-cli", "nc")
	p := newPair(t,
		[]string{"--ingress", "tcp:6379:127.0.0.1:6379"},
		[]string{"--egress", "tcp:6379:server:6379"})
	dir := p.Dir("redis", p.server.UID)
	p.server.Start("redis", p.server.CommandAs(p.server.UID, "redis-server", "--port", "6379", "--bind", "127.0.0.1", "--dir", dir, "--save", ""))
	awaitTCP(t, p.server, "127.0.0.1", 6379)

	if got := strings.TrimSpace(p.client.Run("redis-cli", "-p", "6379", "ping")); got != "PONG" {
		t.Fatalf("ping: %q", got)
	}
	out := p.client.RunFor(2*time.Minute, "redis-benchmark", "-p", "6379", "-n", "20000", "-c", "50", "-q", "-t", "set,get,lpush,mset")
	if strings.Contains(out, "Error") || !strings.Contains(out, "requests per second") {
		t.Errorf("redis-benchmark:\n%s", out)
	}
	out = p.client.RunFor(2*time.Minute, "redis-benchmark", "-p", "6379", "-n", "20000", "-c", "20", "-P", "16", "-d", "4096", "-q", "-t", "set,get")
	if strings.Contains(out, "Error") {
		t.Errorf("redis-benchmark with pipelines:\n%s", out)
	}
}

// TestDNS: dig over UDP and TCP against a real name server, with an answer
// larger than a packet.
func TestDNS(t *testing.T) {
	need.Programs(t, "dnsmasq", "dig", "nc")
	p := newPair(t,
		[]string{"--ingress", "udp:53:127.0.0.1:5353", "--ingress", "tcp:53:127.0.0.1:5353"},
		[]string{"--egress", "udp:5300:server:53", "--egress", "tcp:5300:server:53"})
	args := []string{
		"--keep-in-foreground", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=5353",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--user=", "--group=", "--pid-file=", "--edns-packet-max=8192",
		"--address=/www.example.test/203.0.113.7",
	}
	for i := range 15 {
		args = append(args, fmt.Sprintf("--txt-record=big.example.test,%s", strings.Repeat(string(rune('a'+i)), 200)))
	}
	p.server.Start("dnsmasq", p.server.Command("dnsmasq", args...))
	awaitTCP(t, p.server, "127.0.0.1", 5353)

	dig := func(args ...string) string {
		return p.client.Run("dig", append([]string{"-p", "5300", "+tries=3", "+time=3"}, args...)...)
	}
	for _, at := range []string{"@127.0.0.1", "@::1"} {
		for _, proto := range []string{"+notcp", "+tcp"} {
			if got := strings.TrimSpace(dig(at, proto, "+short", "www.example.test")); got != "203.0.113.7" {
				t.Errorf("dig %s %s: %q", at, proto, got)
			}
		}
	}
	out := dig("@127.0.0.1", "+notcp", "+ignore", "+bufsize=8192", "TXT", "big.example.test")
	if strings.Count(out, "\tTXT\t") != 15 {
		t.Errorf("a UDP answer of some 3 KB did not come whole:\n%s", out)
	}
}

// TestIperf: iperf3 over TCP and UDP in both directions; the outcome counts,
// not the speed.
func TestIperf(t *testing.T) {
	need.Programs(t, "iperf3")
	p := newPair(t,
		[]string{"--ingress", "tcp:5201:127.0.0.1:5201", "--ingress", "udp:5201:127.0.0.1:5201"},
		[]string{"--egress", "tcp:5201:server:5201", "--egress", "udp:5201:server:5201"})
	server := p.server.Start("iperf3", p.server.CommandAs(p.server.UID, "iperf3", "-s", "-B", "127.0.0.1", "--forceflush"))
	for i, args := range [][]string{
		{"-n", "100M"},
		{"-n", "100M", "-R"},
		{"-n", "300M", "-P", "8"},
		{"-n", "4M", "-u", "-b", "20M", "-l", "1200"},
		{"-n", "4M", "-u", "-b", "20M", "-l", "1200", "-R"},
	} {
		name := strings.Join(append([]string{"iperf3"}, args...), " ")
		// It listens anew for each client, and turns away who comes before.
		cluster.Until(t, 20*time.Second, "iperf3 listens", func() error {
			if n := strings.Count(server.Log(), "Server listening"); n <= i {
				return fmt.Errorf("for client %d of %d", n, i+1)
			}
			return nil
		})
		out, err := p.client.Try(2*time.Minute, "iperf3", append([]string{"-c", "127.0.0.1", "--json"}, args...)...)
		var result struct {
			Error string
			End   struct {
				Sum         struct{ Bytes, Packets, LostPackets float64 }
				SumReceived struct{ Bytes float64 } `json:"sum_received"`
			}
		}
		if jerr := json.Unmarshal([]byte(out), &result); err != nil || jerr != nil || result.Error != "" {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		received := max(result.End.SumReceived.Bytes, result.End.Sum.Bytes)
		least := 50.0 * (1 << 20) // the end of a stream may still be under way when iperf3 counts
		if slices.Contains(args, "-u") {
			least = 2 << 20 // of datagrams some may be lost
		}
		if received < least {
			t.Errorf("%s: %.0f bytes received\n%s", name, received, out)
		}
	}
}

// TestSSH: scp and rsync over sshd, both ways, checksums equal.
func TestSSH(t *testing.T) {
	need.Programs(t, "ssh", "scp", "rsync", "ssh-keygen", "nc")
	sshd := "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		need.Missing(t, "program sshd")
	}
	p := newPair(t,
		[]string{"--ingress", "tcp:22:127.0.0.1:2222"},
		[]string{"--egress", "tcp:2022:server:22"})
	dir := p.Dir("ssh", 0)
	keygen := func(name string) string {
		path := filepath.Join(dir, name)
		p.server.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
		return path
	}
	hostKey, userKey := keygen("host"), keygen("user")
	pub, err := os.ReadFile(userKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "authorized"), pub, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	p.server.Start("sshd", p.server.Command(sshd, "-D", "-e", "-f", "/dev/null", "-p", "2222", "-h", hostKey,
		"-o", "ListenAddress=127.0.0.1", "-o", "AuthorizedKeysFile="+filepath.Join(dir, "authorized"), "-o", "StrictModes=no",
		"-o", "UsePAM=no", "-o", "PermitRootLogin=yes", "-o", "PidFile=none", "-o", "Subsystem=sftp internal-sftp"))
	awaitTCP(t, p.server, "127.0.0.1", 2222)

	src, back := filepath.Join(dir, "src"), filepath.Join(dir, "back")
	want := randomFile(t, src, 64<<20)
	opts := []string{"-i", userKey, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
	remote := "root@127.0.0.1:"
	up := filepath.Join(dir, "up")
	p.client.RunFor(2*time.Minute, "scp", append(append([]string{"-P", "2022"}, opts...), src, remote+up)...)
	p.client.RunFor(2*time.Minute, "rsync", "-e", "ssh -p 2022 "+strings.Join(opts, " "), remote+up, back)
	for _, f := range []string{up, back} {
		if got := strings.Fields(p.server.Run("sha256sum", f))[0]; got != want {
			t.Errorf("%s: checksum %s, want %s", filepath.Base(f), got, want)
		}
	}
}
