package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/localapi/localapitest"
	"nexd/node"
)

// typed runs a program as a user without privileges and without a home does.
func typed(program func(context.Context, []string, Streams, func(string) string) int, env map[string]string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = program(context.Background(), args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, func(name string) string { return env[name] })
	return code, out.String(), errs.String()
}

// What is blamed is what is wrong: not a flag that the right command knows.
func TestAnUnknownCommandIsBlamedBeforeItsFlags(t *testing.T) {
	for args, want := range map[string]string{
		"nexd router --exit-node":                   `unknown command "router" for nexd`,
		"nexd --service-url https://h --mtu 1300 x": `unknown command "x" for nexd`,
		"nexd --bogus value proxy":                  "unknown flag --bogus for nexd",
		"nexd --reg-key K":                          "no command of nexd is given",
		"nexctl --unix-socket S nexd get foo":       `unknown command "foo" for nexctl nexd get`,
		"nexctl --unix-socket=S nexd get":           "no command of nexctl nexd get is given",
		"nexctl --admin-file F devices list":        "did you mean nexctl device?",
		"nexctl nexd -o json prxy list":             "did you mean nexctl nexd proxy?",
	} {
		words := strings.Fields(args)
		program := Nexd
		if words[0] == "nexctl" {
			program = Nexctl
		}
		code, out, stderr := typed(program, nil, words[1:]...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, "hint: ") {
			t.Errorf("%s: exit code %d\n%s%s", args, code, out, stderr)
		}
	}
	for _, args := range []string{"help proxy", "proxy --help", "--help", "--log-level info proxy --help", "help"} {
		if code, out, stderr := typed(Nexd, nil, strings.Fields(args)...); code != 0 || !strings.Contains(out, "Usage:") {
			t.Errorf("nexd %s: %d\n%s", args, code, stderr)
		}
	}
}

func TestEachProgramCompletesItself(t *testing.T) {
	for name, program := range map[string]func(context.Context, []string, Streams, func(string) string) int{"nexd": Nexd, "nexctl": Nexctl} {
		_, out, _ := typed(program, nil, "completion", "--help")
		if !strings.Contains(out, "source <("+name+" completion bash)") || !strings.Contains(out, name+` completion zsh > "${fpath[1]}/_`+name+`"`) {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// A value is blamed where it was written, whoever finds that it is wrong.
func TestWrongValuesAreBlamedWhereTheyStand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f.yaml")
	if err := os.WriteFile(file, []byte("# a comment\nmtu: 12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, []string{"proxy", "--state-dir", dir, "--mtu", "12"}, "error: --mtu 12: want 1280"},
		{map[string]string{"NEXD_MTU": "12"}, []string{"proxy", "--state-dir", dir}, "error: NEXD_MTU 12: want 1280"},
		{nil, []string{"proxy", "--state-dir", dir, "--config", file}, "error: " + file + ":2: mtu 12: want 1280"},
		{map[string]string{"NEXD_PUBLIC_URL": "x"}, []string{"serve", "--state-dir", dir}, "error: NEXD_PUBLIC_URL: service URL"},
		{map[string]string{"NEXD_TLS_CERT": "x"}, []string{"serve", "--state-dir", dir}, "error: NEXD_TLS_CERT without --tls-key"},
		{map[string]string{"NEXD_STUN_LISTEN": "x"}, []string{"discovery"}, `error: NEXD_STUN_LISTEN "x": want`},
		{map[string]string{"NEXD_PUBLIC_ADDRESS": "a:1"}, []string{"relay", "--state-dir", dir}, `error: NEXD_PUBLIC_ADDRESS "a:1": want`},
	} {
		if code, _, stderr := typed(Nexd, tt.env, tt.args...); code != exitUsage || !strings.HasPrefix(stderr, tt.want) {
			t.Errorf("%v %v: %d\n%s", tt.env, tt.args, code, stderr)
		}
	}
}

func TestKeysNoFileCanHold(t *testing.T) {
	for key, want := range map[string]string{
		"config": "--config is for the command line alone", "check": "--check is for the command line alone", "confg": "keys are the names of flags",
	} {
		_, err := newProxySettings(func(string) string { return "" }).parseConfig("f", []byte(key+": x\n"))
		if e := explain(err); e == nil || !strings.Contains(e.Hint, want) {
			t.Errorf("%s: %+v", key, e)
		}
	}
}

func TestReloadErrorsFitALine(t *testing.T) {
	_, err := resolved(t, nil, map[string]string{"HOME": t.TempDir(), "NEXD_EGRESS": "tcp:99999:db:80"}, "")
	want := "NEXD_EGRESS: egress rule: port 99999 is too large: tcp:99999:db:80 (a port is 1 to 65535)"
	if err == nil || oneLine(err).Error() != want {
		t.Errorf("got %q, want %q", oneLine(err), want)
	}
}

// A device whose first join failed has a state and has not joined: it cannot go
// on without the key's file.
func TestAKeyFileMissingBeforeTheJoin(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("https://127.0.0.1:1#s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := resolved(t, []string{"--state-dir", filepath.Join(dir, "s"), "--reg-key-file", filepath.Join(dir, "key")}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.New(p.node)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "gone")
	code, _, stderr := typed(Nexd, nil, "proxy", "--state-dir", filepath.Join(dir, "s"), "--reg-key-file", gone)
	if code != exitUsage || !strings.HasPrefix(stderr, "error: --reg-key-file: open "+gone) || strings.Contains(stderr, "going on") {
		t.Errorf("%d\n%s", code, stderr)
	}
}

func TestNoDrainIsNoDrain(t *testing.T) {
	p, err := resolved(t, []string{"--drain-timeout", "0s"}, map[string]string{"HOME": t.TempDir()}, "")
	if err != nil || p.node.DrainTimeout >= 0 {
		t.Errorf("0 would be the default: %v, %v", p.node.DrainTimeout, err)
	}
}

// A check that is fine means that a start is possible.
func TestCheckOfADeviceThatCannotJoin(t *testing.T) {
	for _, args := range [][]string{{"--state-dir", t.TempDir()}, {"--ephemeral"}, {"--ephemeral", "--service-url", "https://127.0.0.1:1"}} {
		code, out, stderr := typed(Nexd, nil, append([]string{"proxy", "--check"}, args...)...)
		if code != exitFailed || !strings.Contains(out, "this device has not joined the mesh yet (give --reg-key once") || !strings.Contains(stderr, "1 of the things tried") {
			t.Errorf("%v: %d\n%s%s", args, code, out, stderr)
		}
	}
}

// begun tells when somebody waits for the daemon.
type begun struct {
	*localapitest.Daemon
	waits chan struct{}
}

func (d *begun) Changed() <-chan struct{} {
	select {
	case d.waits <- struct{}{}:
	default:
	}
	return d.Daemon.Changed()
}

func TestWaitOutlivesARestart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	first := &begun{&localapitest.Daemon{}, make(chan struct{}, 1)}
	s, err := localapi.NewServer(localapi.ServerConfig{Path: socket, Daemon: first})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	if err := s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	got := make(chan string, 1)
	go func() {
		_, _, stderr := ask(t, socket, "nexd", "wait", "--for", "ready", "--timeout", "30s")
		got <- stderr
	}()
	<-first.waits
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	serve(t, twoPeers(), socket)
	if problem := <-got; problem != "" {
		t.Error(problem)
	}
}

// A daemon that is slow to answer still says what is missing.
func TestWaitHearsOutASlowDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	slow := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout, _ := time.ParseDuration(r.URL.Query().Get("timeout"))
		select {
		case <-time.After(timeout + 200*time.Millisecond):
		case <-r.Context().Done():
			return
		}
		w.WriteHeader(http.StatusGatewayTimeout)
		_ = json.NewEncoder(w).Encode(localapi.Problem{Message: "not ready in time: egress tcp:80: in use"})
	})}
	ended := make(chan error, 1)
	go func() { ended <- slow.Serve(l) }()
	t.Cleanup(func() {
		if err := slow.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	code, _, stderr := ask(t, socket, "nexd", "wait", "--for", "ready", "--timeout", "10ms")
	if code != exitFailed || !strings.Contains(stderr, "egress tcp:80: in use") {
		t.Errorf("%d %s", code, stderr)
	}
}
