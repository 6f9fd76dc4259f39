package cli

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"nexd/localapi"
	"nexd/localapi/localapitest"
)

// document reads one of the documents that docs/status-json.md shows.
func document[T any](t *testing.T, name string) (doc T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../localapi/testdata", name))
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

const netcheckText = `UDP           IPv4 yes, IPv6 no
IPv6 address  yes
NAT           easy: endpoint-independent mapping
Port mapping  198.51.100.3:41641 by pcp
Service       https://h:8443, connected, 13.50 ms
Clock         20ms behind the service's
Offered       198.51.100.3:41641 (mapped)

STUN SERVER     SEES US AT          RTT
192.0.2.9:3478  198.51.100.3:41641  12.50 ms

RELAY    ROLE  UDP       TLS
service  home  12.50 ms  no: connect: connection refused
`

func TestNetcheckForPeople(t *testing.T) {
	var b bytes.Buffer
	showNetcheck(&tables{Writer: &b, header: true}, document[localapi.Netcheck](t, "netcheck_full.json"))
	if b.String() != netcheckText {
		t.Errorf("it prints\n%s", b.String())
	}
	b.Reset()
	showNetcheck(&tables{Writer: &b, header: true}, localapi.Netcheck{
		NAT:           localapi.NATCheck{Kind: "blocked"},
		PortMapping:   localapi.PortMappingCheck{Enabled: true, Error: "no router answers"},
		Service:       localapi.ServiceCheck{URL: "https://h", Error: "timeout"},
		Clock:         localapi.ClockCheck{Known: true, AheadMillis: 3600_000},
		STUN:          []localapi.STUNCheck{{Server: "192.0.2.9:3478"}},
		OwnCandidates: []localapi.OwnCandidate{{Address: netip.MustParseAddrPort("192.0.2.1:7"), Kind: "host"}, {Address: netip.MustParseAddrPort("[2001:db8::1]:7"), Kind: "host"}},
		Relays:        []localapi.RelayCheck{{Name: "r", Standby: true, UDP: localapi.LegCheck{Tried: true, OK: true}}},
	})
	want := `UDP           IPv4 no, IPv6 no
IPv6 address  no
NAT           blocked
Port mapping  none: no router answers
Service       https://h, not connected: timeout
Clock         1h0m0s ahead of the service's
Offered       192.0.2.1:7 (host)
              [2001:db8::1]:7 (host)

STUN SERVER     SEES US AT  RTT
192.0.2.9:3478  no answer   -

RELAY  ROLE     UDP  TLS
r      standby  yes  -
`
	if b.String() != want {
		t.Errorf("it prints\n%s", b.String())
	}
}

func TestNetcheckOverTheSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, &localapitest.Daemon{}, socket)
	code, out, stderr := ask(t, socket, "nexd", "netcheck", "-o", "json")
	var doc localapi.Netcheck
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 || doc.Schema != localapi.Schema || doc.Relays == nil {
		t.Errorf("exit code %d, %v\n%s%s", code, err, out, stderr)
	}
	if code, out, _ = ask(t, socket, "nexd", "netcheck"); code != 0 || len(out) == 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
