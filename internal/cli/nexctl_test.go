package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"nexd/localapi"
	"nexd/localapi/localapitest"
)

// ask runs nexctl against a socket.
func ask(t *testing.T, socket string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := func(name string) string { return map[string]string{"NEXD_UNIX_SOCKET": socket}[name] }
	code = Nexctl(context.Background(), args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, env)
	return code, out.String(), errs.String()
}

// serve runs a daemon's socket until the test ends.
func serve(t *testing.T, d localapi.Daemon, path string) {
	t.Helper()
	s, err := localapi.NewServer(localapi.ServerConfig{Path: path, Daemon: d})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func twoPeers() *localapitest.Daemon {
	d := &localapitest.Daemon{}
	d.Update(func(st *localapi.Status) {
		st.State, st.Ready = localapi.StateRunning, true
		st.Device = localapi.DeviceStatus{Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd00::1")}}
		st.Peers = []localapi.PeerStatus{
			{Name: "db", Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.2")}, Path: localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: "192.0.2.1:7", RTTMillis: 1.25}, TxBytes: 2048},
			{Name: "evil\x1b[2J\tname", Path: localapi.PathStatus{Kind: localapi.PathRelay, Relay: "https://r"}},
		}
	})
	d.OnPing = func(_ context.Context, peer string) (localapi.PingResult, error) {
		switch peer {
		case "db":
			return localapi.PingResult{Peer: "db", Address: netip.MustParseAddr("100.64.0.2"), Millis: 1, Path: localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: "192.0.2.1:7"}}, nil
		case "silent":
			return localapi.PingResult{}, context.DeadlineExceeded
		}
		return localapi.PingResult{}, &localapi.UserError{Message: "no member is called " + peer, Hint: "look"}
	}
	return d
}

func TestPeersForPeopleAndScripts(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, twoPeers(), socket)

	code, out, _ := ask(t, socket, "nexd", "peers", "list")
	if code != 0 || !strings.HasPrefix(out, "PEER ") || !strings.Contains(out, "192.0.2.1:7") || !strings.Contains(out, "1.25 ms") || !strings.Contains(out, "2.0 KiB") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if strings.ContainsAny(out, "\x1b\t") {
		t.Errorf("a peer's name reaches the terminal: %q", out)
	}
	if _, out, _ = ask(t, socket, "nexd", "peers", "list", "--output", "no-header"); !strings.HasPrefix(out, "db ") {
		t.Errorf("no-header: %s", out)
	}
	var list []localapi.PeerStatus
	if _, out, _ = ask(t, socket, "-o", "json", "nexd", "peers", "list"); json.Unmarshal([]byte(out), &list) != nil || len(list) != 2 {
		t.Errorf("json: %s", out)
	}
	if _, out, _ = ask(t, socket, "nexd", "status", "-o", "yaml"); !strings.HasPrefix(out, "schema: 1\n") || !strings.Contains(out, "rules: []") {
		t.Errorf("yaml: %s", out)
	}
	if code, out, _ = ask(t, socket, "nexd", "get", "tunnelip", "--ipv6"); code != 0 || out != "fd00::1\n" {
		t.Errorf("tunnelip: %d %q", code, out)
	}
}

func TestPingExitCodes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, twoPeers(), socket)
	code, out, _ := ask(t, socket, "nexd", "peers", "ping", "db", "-c", "1")
	if code != 0 || out != "reply from db (100.64.0.2): 0.00 ms, direct 192.0.2.1:7\n1 sent, 1 answered\n" {
		t.Errorf("db: %d\n%s", code, out)
	}
	if code, out, stderr := ask(t, socket, "nexd", "peers", "ping", "silent", "-c1", "--timeout", "10ms"); code != 1 || !strings.Contains(out, "no answer") || !strings.HasPrefix(stderr, "error: silent did not answer") {
		t.Errorf("silent: %d\n%s%s", code, out, stderr)
	}
	if code, _, stderr := ask(t, socket, "nexd", "peers", "ping", "ghost"); code != 1 || !strings.Contains(stderr, "hint: look") {
		t.Errorf("ghost: %d\n%s", code, stderr)
	}
}

func TestWaitBeginsBeforeTheDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	got := make(chan string, 1)
	go func() {
		var errs bytes.Buffer
		code := Nexctl(context.Background(), []string{"nexd", "wait", "--for", "ready", "--timeout", "20s", "--unix-socket", socket},
			Streams{In: strings.NewReader(""), Out: &errs, Err: &errs}, func(string) string { return "" })
		if code != 0 {
			got <- errs.String()
		}
		close(got)
	}()
	serve(t, twoPeers(), socket)
	if problem := <-got; problem != "" {
		t.Error(problem)
	}
}
