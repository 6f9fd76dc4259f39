package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"nexd/localapi"
	"nexd/localapi/localapitest"
)

const doctorText = `LEVEL    SUBJECT  FINDING
problem  udp      no STUN server answers over UDP
                  -> let UDP out
note     db       packets go through relay service over UDP: both NATs move
                  -> map a port
                  -> have IPv6
note     relay    the service names no relay
ok       daemon   all is well

PEER   PATH    WHY
relay  direct  checks are answered at 192.0.2.1:7
new    none    the search began 1s ago

nobody talks to 1 other peer
2 peers not shown
`

func sickDaemon() localapi.Doctor {
	relayed := "packets go through relay service over UDP: both NATs move"
	return localapi.Doctor{
		Findings: []localapi.Finding{
			{Level: localapi.LevelOK, Subject: "daemon", Text: "all is well"},
			{Level: localapi.LevelNote, Subject: "db", Text: relayed, Advice: "map a port"},
			{Level: localapi.LevelNote, Subject: "relay", Text: "the service names no relay"},
			{Level: localapi.LevelProblem, Subject: "udp", Text: "no STUN server answers over UDP", Advice: "let UDP out"},
		},
		Peers: []localapi.PeerFinding{
			{Name: "db", PathKind: localapi.PathRelay, Why: relayed, Direct: []string{"map a port", "have IPv6"}},
			{Name: "relay", PathKind: localapi.PathDirect, Why: "checks are answered at 192.0.2.1:7"},
			{Name: "new", PathKind: localapi.PathNone, Why: "the search began 1s ago"},
			{Name: "idle", PathKind: localapi.PathNone, Why: "nobody talks to it", Idle: true},
		},
		Omitted: 2,
	}
}

func TestDoctorTellsAndExits(t *testing.T) {
	doc := sickDaemon()
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, &localapitest.Daemon{OnDoctor: func(context.Context) (localapi.Doctor, error) { return doc, nil }}, socket)

	code, out, stderr := ask(t, socket, "nexd", "doctor")
	if code != 1 || stderr != "" || out != doctorText {
		t.Errorf("exit code %d, stderr %q\n%s", code, stderr, out)
	}
	var got localapi.Doctor
	code, out, _ = ask(t, socket, "nexd", "doctor", "--output", "json")
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || got.OK || len(got.Peers) != 4 {
		t.Errorf("json: exit code %d, %v\n%s", code, err, out)
	}
	if code, out, _ = ask(t, socket, "nexd", "doctor", "-o", "no-header"); code != 1 || !strings.HasPrefix(out, "problem ") || strings.Contains(out, "nobody talks") {
		t.Errorf("no-header: %d\n%s", code, out)
	}
	// Without the problem nothing keeps a script.
	doc.Findings = doc.Findings[:3]
	if code, out, _ = ask(t, socket, "nexd", "doctor"); code != 0 || !strings.Contains(out, "-> have IPv6") {
		t.Errorf("notes only: exit code %d\n%s", code, out)
	}
	if code, _, stderr = ask(t, filepath.Join(t.TempDir(), "none"), "nexd", "doctor"); code != 1 || !strings.Contains(stderr, "no daemon at") {
		t.Errorf("no daemon: %d %s", code, stderr)
	}
}

func TestDoctorOfEvilNames(t *testing.T) {
	doc := localapi.Doctor{
		Findings: []localapi.Finding{{Level: localapi.LevelNote, Subject: "a\x1b[2J\tb", Text: "x\ny\x07", Advice: "\x1b]0;z"}},
		Peers:    []localapi.PeerFinding{{Name: "c\x1b", PathKind: "direct", Why: "\x1b"}},
	}
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, &localapitest.Daemon{OnDoctor: func(context.Context) (localapi.Doctor, error) { return doc, nil }}, socket)
	if _, out, _ := ask(t, socket, "nexd", "doctor"); strings.ContainsAny(out, "\x1b\x07\t") {
		t.Errorf("it reaches the terminal: %q", out)
	}
}
