package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/localapi/localapitest"
)

const traceText = `Peer        db
Addresses   100.64.0.2
Public key  AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
State       suspect for 10s
Path        direct 192.0.2.1:7, 1.50 ms; packets go by the spare path, too
Spare       relay service (udp), 40.50 ms
MTU         1280
Rounds      2, the next in 30s
Its NAT     hard
Its relays  service
Offered     198.51.100.3:41641 (server-reflexive)

CANDIDATE        KIND              STATE     RTT       CHECKS  LAST CHECK  ANSWERS  LAST ANSWER
192.0.2.1:7      peer-reflexive    path      1.50 ms   3       10s ago     2        10s ago
service          relay             answered  40.50 ms  1       10s ago     1        10s ago
192.0.2.7:41641  server-reflexive  silent    -         8       10s ago     0        never

TIME                      EVENT
2026-01-02T03:04:05.000Z  direct by 192.0.2.1:7: a check was answered
`

func TestTraceForPeople(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 15, 0, time.UTC)
	var b bytes.Buffer
	doc := document[localapi.Trace](t, "trace_full.json")
	showTrace(&tables{Writer: &b, header: true}, doc, now)
	if b.String() != traceText {
		t.Errorf("it prints\n%s", b.String())
	}
	b.Reset()
	doc.Omitted = 7
	showTrace(&tables{Writer: &b, header: true}, doc, now)
	if !strings.Contains(b.String(), "never\nand 7 more\n") {
		t.Errorf("it prints\n%s", b.String())
	}
}

func TestTraceOverTheSocket(t *testing.T) {
	d := twoPeers()
	d.OnTrace = func(_ context.Context, peer string) (localapi.Trace, error) {
		if peer != "db" {
			return localapi.Trace{}, &localapi.UserError{Message: "no member is called " + peer, Hint: "look"}
		}
		tr := localapi.Trace{Peer: localapi.TracePeer{Name: "db\x1b[2J"}, State: "idle"}
		tr.History = []localapi.TraceEvent{{Text: "a\x1b[2J\tb"}}
		return tr, nil
	}
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, d, socket)
	code, out, _ := ask(t, socket, "nexd", "peers", "trace", "db")
	if code != 0 || strings.ContainsAny(out, "\x1b\t") || !strings.Contains(out, "idle") {
		t.Errorf("exit code %d\n%q", code, out)
	}
	var doc localapi.Trace
	if _, out, _ = ask(t, socket, "nexd", "peers", "trace", "db", "-o", "json"); json.Unmarshal([]byte(out), &doc) != nil || doc.Path.Kind != localapi.PathNone {
		t.Errorf("json: %s", out)
	}
	if _, out, _ = ask(t, socket, "nexd", "peers", "trace", "db", "-o", "yaml"); !strings.HasPrefix(out, "schema: 1\n") || !strings.Contains(out, "candidates: []") {
		t.Errorf("yaml: %s", out)
	}
	if code, _, stderr := ask(t, socket, "nexd", "peers", "trace", "ghost"); code != 1 || stderr != "error: no member is called ghost\nhint: look\n" {
		t.Errorf("ghost: %d\n%s", code, stderr)
	}
	if _, out, _ = ask(t, socket, "__complete", "nexd", "peers", "trace", ""); !strings.HasPrefix(out, "db\n") {
		t.Errorf("completion: %s", out)
	}
}

func TestPathsInWords(t *testing.T) {
	for want, p := range map[string]localapi.PathStatus{
		"none":               {Kind: localapi.PathNone},
		"direct 192.0.2.1:7": {Kind: localapi.PathDirect, Endpoint: "192.0.2.1:7"},
		"relay two (tls)":    {Kind: localapi.PathRelay, Relay: "two", Transport: localapi.TransportTLS},
		"relay two":          {Kind: localapi.PathRelay, Relay: "two"},
	} {
		if got := pathText(p); got != want {
			t.Errorf("%+v is %q", p, got)
		}
	}
}

func TestStatusListsRelays(t *testing.T) {
	var b bytes.Buffer
	st := document[localapi.Status](t, "status_full.json")
	st.Relays = append(st.Relays,
		localapi.RelayStatus{Name: "two", URL: "https://two/v1/relay", UDP: netip.MustParseAddrPort("192.0.2.8:3478"), Connected: true, Transport: localapi.TransportTLS, Standby: true},
		localapi.RelayStatus{Name: "three", UDP: netip.MustParseAddrPort("192.0.2.7:3478"), Error: "no answer"})
	st.Peers[0].Path = localapi.PathStatus{Kind: localapi.PathRelay, Relay: "service", Transport: localapi.TransportUDP, RTTMillis: 40}
	showStatus(&tables{Writer: &b, header: true}, st, st.Service.Since)
	want := `
RELAY    ROLE     CONNECTED  ADDRESS               RTT      ERROR
service  home     udp        192.0.2.9:3478        1.50 ms  -
two      standby  tls        https://two/v1/relay  -        -
three    -        no         192.0.2.7:3478        -        no answer

PEER  ADDRESSES   PATH   ENDPOINT       RTT       MTU   HANDSHAKE  SENT  RECEIVED
db    100.64.0.2  relay  service (udp)  40.00 ms  1440  0s ago     1 B   2 B
`
	if !strings.Contains(b.String(), want) {
		t.Errorf("it prints\n%s", b.String())
	}
}

// TestPingUntilDirect: the path becomes direct with the second answer.
func TestPingUntilDirect(t *testing.T) {
	answers := 0
	d := &localapitest.Daemon{OnPing: func(context.Context, string) (localapi.PingResult, error) {
		answers++
		r := localapi.PingResult{Peer: "db", Address: netip.MustParseAddr("100.64.0.2"), RTT: 40 * time.Millisecond}
		r.Path = localapi.PathStatus{Kind: localapi.PathRelay, Relay: "service", Transport: localapi.TransportUDP}
		if answers == 2 {
			r.RTT, r.Path = time.Millisecond, localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: "192.0.2.1:7"}
		}
		return r, nil
	}}
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, d, socket)
	reply := "reply from db (100.64.0.2): %.2f ms, %s\n"
	relayed := fmt.Sprintf(reply, 40.0, "relay service (udp)")
	code, out, stderr := ask(t, socket, "nexd", "peers", "ping", "db", "--until-direct", "-c", "5")
	if want := relayed + fmt.Sprintf(reply, 1.0, "direct 192.0.2.1:7") + "2 sent, 2 answered\n"; code != 0 || out != want {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	code, out, stderr = ask(t, socket, "nexd", "peers", "ping", "db", "--until-direct", "-c", "1")
	if code != 1 || out != relayed+"1 sent, 1 answered\n" || !strings.HasPrefix(stderr, "error: the path to db is relay service (udp)\nhint: ") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
}
