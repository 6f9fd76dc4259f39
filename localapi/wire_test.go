package localapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/key"
	"nexd/localapi"
	"nexd/localapi/localapitest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// raw returns a client that speaks plain HTTP to the socket.
func raw(path string) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}

func TestBadRequestsAreRefusedWithAReason(t *testing.T) {
	d := &localapitest.Daemon{}
	_, path, _ := start(t, d)
	client := raw(path)
	for _, tt := range []struct {
		name, method, target, body string
		status                     int
		want                       string
	}{
		{"no body", "POST", "/v1/rules", "", 400, "malformed"},
		{"not JSON", "POST", "/v1/rules", "tcp:80", 400, "malformed"},
		{"two documents", "POST", "/v1/rules", "{}{}", 400, "more than one"},
		{"unknown field", "POST", "/v1/rules", `{"added":[]}`, 400, "added"},
		{"nothing to change", "POST", "/v1/rules", `{}`, 400, "0 rules"},
		{"unknown direction", "POST", "/v1/rules", `{"add":[{"direction":"up","rule":"tcp:1:a:1"}]}`, 400, "direction"},
		{"malformed rule", "POST", "/v1/rules", `{"add":[{"direction":"egress","rule":"tcp:0:a:1"}]}`, 400, "tcp:0:a:1"},
		{"huge body", "POST", "/v1/rules", `{"add":[{"rule":"` + strings.Repeat("x", 2<<20) + `"}]}`, 413, "larger"},
		{"wait for nothing", "GET", "/v1/wait", "", 400, "wait"},
		{"wait for ever and a day", "GET", "/v1/wait?for=ready&timeout=25h", "", 400, "timeout"},
		{"wait for a moment that is none", "GET", "/v1/wait?for=ready&timeout=soon", "", 400, "soon"},
		{"unknown path", "GET", "/v2/status", "", 404, "no such request"},
		{"wrong method", "DELETE", "/v1/status", "", 404, "no such request"},
		{"trace of nobody", "GET", "/v1/trace", "", 400, "trace"},
		{"trace of a mouthful", "GET", "/v1/trace?peer=" + strings.Repeat("x", 600), "", 400, "trace"},
		{"netcheck told to be made", "POST", "/v1/netcheck", "{}", 404, "no such request"},
		{"log level", "PUT", "/v1/log-level", `{"level":""}`, 400, "log level"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, "http://nexd"+tt.target, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var p localapi.Problem
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || !strings.Contains(p.Message, tt.want) {
				t.Errorf("status %d %q, want %d with %q", resp.StatusCode, p.Message, tt.status, tt.want)
			}
		})
	}
	if n := len(d.Status().Rules); n != 0 {
		t.Errorf("%d rules came of it", n)
	}
}

// TestStatusKeys holds the keys of the status document still: scripts depend
// on them. Adding one is fine; then the golden file grows.
func TestStatusKeys(t *testing.T) {
	k, err := key.PublicFromBytes(bytes.Repeat([]byte{1}, key.Size))
	if err != nil {
		t.Fatal(err)
	}
	four, six := netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("fd00::2")
	full := localapi.Status{
		Version: "v1", State: localapi.StateRunning, Ready: true,
		Device:  localapi.DeviceStatus{Name: "web", ID: "d1", PublicKey: k, Addresses: []netip.Addr{four, six}},
		Service: localapi.ServiceStatus{URL: "https://h:8443", Connected: true, Since: when},
		NAT:     localapi.NATStatus{Kind: "open", Mapped: []netip.AddrPort{netip.AddrPortFrom(four, 1)}, UDP: true},
		Relays: []localapi.RelayStatus{{
			ID: "r1", Name: "service", URL: "https://h:8443/v1/relay", Connected: true, Since: when, RTTMillis: 1.5,
			Home: true, Transport: localapi.TransportUDP, UDP: netip.MustParseAddrPort("192.0.2.9:3478"),
		}},
		Peers: []localapi.PeerStatus{{
			Name: "db", ID: "d2", PublicKey: k, Addresses: []netip.Addr{four},
			Path:          localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: "192.0.2.1:1", RTTMillis: 1.5, Since: when},
			MTU:           1440,
			LastHandshake: when, TxBytes: 1, RxBytes: 2,
		}},
		Rules: []localapi.RuleStatus{{Direction: "ingress", Rule: "tcp:80:127.0.0.1:8080", State: localapi.RuleListening, Active: 1, Total: 2, BytesIn: 3, BytesOut: 4}},
	}
	for name, st := range map[string]localapi.Status{"status_full.json": full, "status_empty.json": {}} {
		d := &localapitest.Daemon{}
		d.Update(func(to *localapi.Status) { *to = st })
		_, path, stop := start(t, d)
		resp, err := raw(path).Get("http://nexd/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		stop()
		var got bytes.Buffer
		if err := json.Indent(&got, body, "", "  "); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || got.String() != string(want) {
			t.Errorf("%s: %v\ngot:\n%s", name, err, got.String())
		}
	}
}

// FuzzRequests sends anything as a body: the daemon refuses or obeys, and
// answers the next request.
func FuzzRequests(f *testing.F) {
	f.Add("/v1/rules", []byte(`{"add":[{"direction":"egress","rule":"tcp:1:a:1"}]}`))
	f.Add("/v1/ping", []byte(`{"peer":"db","timeout_ms":1}`))
	f.Add("/v1/rules", []byte(`{"add":[],"remove":null}`))
	d := &localapitest.Daemon{}
	h := localapi.Handler(d)
	f.Fuzz(func(t *testing.T, target string, body []byte) {
		if target != "/v1/rules" && target != "/v1/ping" {
			return
		}
		req, err := http.NewRequest(http.MethodPost, "http://nexd"+target, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		status := h(req)
		if status != 200 && (status < 400 || status >= 500) {
			t.Errorf("status %d for %q", status, body)
		}
	})
}
