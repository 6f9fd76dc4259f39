package localapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"nexd/key"
	"nexd/localapi"
	"nexd/localapi/localapitest"
)

var when = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func fullTrace(t *testing.T) localapi.Trace {
	t.Helper()
	k, err := key.PublicFromBytes(bytes.Repeat([]byte{1}, key.Size))
	if err != nil {
		t.Fatal(err)
	}
	relay := localapi.PathStatus{Kind: localapi.PathRelay, Relay: "service", Transport: localapi.TransportUDP, RTTMillis: 40.5, Since: when}
	return localapi.Trace{
		Peer:  localapi.TracePeer{Name: "db", ID: "d2", PublicKey: k, Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.2")}},
		State: "suspect", Since: when,
		Path:  localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: "192.0.2.1:7", RTTMillis: 1.5, Since: when},
		Spare: relay, Both: true, MTU: 1280, PeerNAT: "hard",
		PeerRelays: []localapi.RelayName{{ID: "r1", Name: "service"}},
		Rounds:     localapi.TraceRounds{Count: 2, Next: when.Add(40 * time.Second)},
		Candidates: []localapi.Candidate{
			{Address: "192.0.2.7:41641", Kind: localapi.CandidateServerReflexive, State: localapi.CandidateSilent, LastSent: when, Checks: 8},
			{Address: "192.0.2.1:7", Kind: localapi.CandidatePeerReflexive, State: localapi.CandidatePath, RTTMillis: 1.5, LastSent: when, LastAnswer: when, Checks: 3, Answers: 2},
			{Relay: "service", Kind: localapi.CandidateRelay, State: localapi.CandidateAnswered, RTTMillis: 40.5, LastSent: when, LastAnswer: when, Checks: 1, Answers: 1},
		},
		OwnCandidates: []localapi.OwnCandidate{{Address: netip.MustParseAddrPort("198.51.100.3:41641"), Kind: localapi.CandidateServerReflexive}},
		History:       []localapi.TraceEvent{{At: when, Text: "direct by 192.0.2.1:7: a check was answered"}},
	}
}

func fullNetcheck() localapi.Netcheck {
	return localapi.Netcheck{
		At: when, UDP: localapi.UDPCheck{IPv4: true}, IPv6: true,
		NAT:           localapi.NATCheck{Kind: "easy", Explanation: "endpoint-independent mapping"},
		STUN:          []localapi.STUNCheck{{Server: "192.0.2.9:3478", Mapped: netip.MustParseAddrPort("198.51.100.3:41641"), RTTMillis: 12.5}},
		PortMapping:   localapi.PortMappingCheck{Enabled: true, Protocol: "pcp", External: netip.MustParseAddrPort("198.51.100.3:41641")},
		OwnCandidates: []localapi.OwnCandidate{{Address: netip.MustParseAddrPort("198.51.100.3:41641"), Kind: localapi.CandidateMapped}},
		Relays: []localapi.RelayCheck{{
			ID: "r1", Name: "service", URL: "https://h:8443/v1/relay", Home: true,
			UDP: localapi.LegCheck{Tried: true, OK: true, RTTMillis: 12.5}, TLS: localapi.LegCheck{Tried: true, Error: "connect: connection refused"},
		}},
		Service: localapi.ServiceCheck{URL: "https://h:8443", Connected: true, RTTMillis: 13.5},
		Clock:   localapi.ClockCheck{Known: true, AheadMillis: -20},
	}
}

func fullDoctor() localapi.Doctor {
	return localapi.Doctor{
		Findings: []localapi.Finding{
			{Level: localapi.LevelOK, Subject: "service", Text: "connected to https://h:8443"},
			{Level: localapi.LevelProblem, Subject: "udp", Text: "no STUN server answers over UDP, and no relay is connected: nobody can be reached", Advice: "let UDP out of this host's network, and the answers in"},
		},
		Peers: []localapi.PeerFinding{{Name: "db", PathKind: localapi.PathRelay, Why: "packets go through relay service over UDP: UDP is blocked at db: it says that no server answers it", Direct: []string{"let UDP out of db's network, and the answers in"}}},
	}
}

func TestDocumentsGoThroughTheSocket(t *testing.T) {
	trace, net, doctor := fullTrace(t), fullNetcheck(), fullDoctor()
	client, _, _ := start(t, &localapitest.Daemon{
		OnTrace: func(_ context.Context, peer string) (localapi.Trace, error) {
			if peer != "db/ü&x=1" {
				return localapi.Trace{}, &localapi.UserError{Message: "who is " + peer, Hint: "look"}
			}
			return trace, nil
		},
		OnNetcheck: func(context.Context) (localapi.Netcheck, error) { return net, nil },
		OnDoctor:   func(context.Context) (localapi.Doctor, error) { return doctor, nil },
	})
	ctx := testContext(t)

	got, err := client.Trace(ctx, "db/ü&x=1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Schema != localapi.Schema || got.Candidates[0].State != localapi.CandidatePath || got.Candidates[2].State != localapi.CandidateSilent {
		t.Errorf("the path is not first: %+v", got.Candidates)
	}
	got.Schema, got.Candidates = trace.Schema, trace.Candidates
	if !reflect.DeepEqual(got, trace) {
		t.Errorf("trace:\n%+v\nwant\n%+v", got, trace)
	}
	check, err := client.Netcheck(ctx)
	net.Schema = localapi.Schema
	if err != nil || !reflect.DeepEqual(check, net) {
		t.Errorf("netcheck: %v\n%+v\nwant\n%+v", err, check, net)
	}
	report, err := client.Doctor(ctx)
	if err != nil || report.OK || len(report.Findings) != 2 || report.Findings[0].Level != localapi.LevelProblem || !reflect.DeepEqual(report.Peers, doctor.Peers) {
		t.Errorf("doctor: %+v, %v", report, err)
	}
	var user *localapi.UserError
	for _, peer := range []string{"nobody", "", strings.Repeat("x", 4096)} {
		if _, err := client.Trace(ctx, peer); !errors.As(err, &user) || user.Hint == "" {
			t.Errorf("trace %.10q: %v, want a hint", peer, err)
		}
	}
}

// TestWhatAPeerAnnouncedIsCut: a daemon may be told anything; what it says
// stays readable.
func TestWhatAPeerAnnouncedIsCut(t *testing.T) {
	long := strings.Repeat("ü", 10000)
	trace, doctor, net := fullTrace(t), fullDoctor(), fullNetcheck()
	for i := range 10000 {
		trace.Candidates = append(trace.Candidates, localapi.Candidate{Address: fmt.Sprintf("192.0.2.1:%d", i+1), Kind: localapi.CandidateHint, State: localapi.CandidateUntried})
		trace.OwnCandidates = append(trace.OwnCandidates, trace.OwnCandidates[0])
		trace.History = append(trace.History, localapi.TraceEvent{At: when, Text: fmt.Sprintf("%d %s", i, long)})
		net.Relays = append(net.Relays, localapi.RelayCheck{UDP: localapi.LegCheck{Error: long}})
		net.STUN = append(net.STUN, localapi.STUNCheck{})
		doctor.Findings = append(doctor.Findings, localapi.Finding{Level: localapi.LevelNote, Text: long, Advice: long})
		doctor.Peers = append(doctor.Peers, localapi.PeerFinding{Why: long, Direct: []string{long, long, long, long, long, long, long, long, long}})
	}
	client, _, _ := start(t, &localapitest.Daemon{
		OnTrace:    func(context.Context, string) (localapi.Trace, error) { return trace, nil },
		OnNetcheck: func(context.Context) (localapi.Netcheck, error) { return net, nil },
		OnDoctor:   func(context.Context) (localapi.Doctor, error) { return doctor, nil },
	})
	ctx := testContext(t)
	got, err := client.Trace(ctx, "db")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Candidates) != localapi.MaxCandidates || got.Omitted != 10003-localapi.MaxCandidates || got.Candidates[0].State != localapi.CandidatePath {
		t.Errorf("%d candidates, %d omitted, first %+v", len(got.Candidates), got.Omitted, got.Candidates[0])
	}
	last := got.History[len(got.History)-1].Text
	if len(got.History) != localapi.MaxHistory || !strings.HasPrefix(last, "9999 ü") || len(last) > localapi.MaxText || !strings.HasSuffix(last, "ü…") {
		t.Errorf("%d events, the last %q", len(got.History), last)
	}
	if len(got.OwnCandidates) != localapi.MaxCandidates {
		t.Errorf("%d own candidates", len(got.OwnCandidates))
	}
	check, err := client.Netcheck(ctx)
	if err != nil || len(check.Relays) != localapi.MaxRelays || len(check.STUN) != localapi.MaxServers || len(check.Relays[1].UDP.Error) > localapi.MaxText {
		t.Errorf("netcheck: %v, %d relays, %d servers", err, len(check.Relays), len(check.STUN))
	}
	report, err := client.Doctor(ctx)
	if err != nil || report.OK || len(report.Findings) != localapi.MaxFindings || len(report.Peers) != localapi.MaxDoctorPeers ||
		report.Omitted != 10001-localapi.MaxDoctorPeers || len(report.Peers[1].Direct) != localapi.MaxWays || len(report.Peers[1].Direct[0]) > localapi.MaxText {
		t.Errorf("doctor: %v, ok %v, %d findings, %d peers", err, report.OK, len(report.Findings), len(report.Peers))
	}
	if n := len(trace.History[5].Text); n < 20000 {
		t.Error("the daemon's own list was changed")
	}
	if n := len(doctor.Peers[1].Direct[0]); n < 20000 {
		t.Error("the daemon's own advice was changed")
	}
}

func TestOneNetcheckAtATime(t *testing.T) {
	began, end := make(chan struct{}, 2), make(chan struct{})
	client, _, _ := start(t, &localapitest.Daemon{OnNetcheck: func(ctx context.Context) (localapi.Netcheck, error) {
		began <- struct{}{}
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("a netcheck without an end")
		}
		<-end
		return localapi.Netcheck{}, nil
	}})
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := client.Netcheck(testContext(t))
			done <- err
		}()
	}
	<-began
	// Whoever waits for its turn may go away.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := client.Netcheck(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third: %v", err)
	}
	select {
	case <-began:
		t.Error("two at a time")
	default:
	}
	close(end)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestChecksThatFail(t *testing.T) {
	client, _, _ := start(t, &localapitest.Daemon{
		OnNetcheck: func(context.Context) (localapi.Netcheck, error) { return localapi.Netcheck{}, context.DeadlineExceeded },
		OnDoctor: func(context.Context) (localapi.Doctor, error) {
			return localapi.Doctor{}, errors.New("out of breath")
		},
	})
	var problem *localapi.Problem
	if _, err := client.Netcheck(testContext(t)); !errors.As(err, &problem) || problem.Status != http.StatusGatewayTimeout {
		t.Errorf("netcheck: %v", err)
	}
	if _, err := client.Doctor(testContext(t)); !errors.As(err, &problem) || problem.Status != http.StatusInternalServerError || problem.Message != "out of breath" {
		t.Errorf("doctor: %v", err)
	}
}

// TestDocumentKeys holds the keys of the documents still, and their page true.
func TestDocumentKeys(t *testing.T) {
	page, err := os.ReadFile("../docs/status-json.md")
	if err != nil {
		t.Fatal(err)
	}
	d := &localapitest.Daemon{OnTrace: func(context.Context, string) (localapi.Trace, error) { return localapi.Trace{}, nil }}
	_, path, _ := start(t, d)
	full := &localapitest.Daemon{
		OnTrace:    func(context.Context, string) (localapi.Trace, error) { return fullTrace(t), nil },
		OnNetcheck: func(context.Context) (localapi.Netcheck, error) { return fullNetcheck(), nil },
		OnDoctor:   func(context.Context) (localapi.Doctor, error) { return fullDoctor(), nil },
	}
	_, fullPath, _ := start(t, full)
	for _, tt := range []struct{ name, socket, target string }{
		{"trace_empty.json", path, "trace?peer=db"},
		{"netcheck_empty.json", path, "netcheck"},
		{"doctor_empty.json", path, "doctor"},
		{"trace_full.json", fullPath, "trace?peer=db"},
		{"netcheck_full.json", fullPath, "netcheck"},
		{"doctor_full.json", fullPath, "doctor"},
	} {
		resp, err := raw(tt.socket).Get("http://nexd/v1/" + tt.target)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var got bytes.Buffer
		if err := errors.Join(err, json.Indent(&got, body, "", "  ")); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", tt.name)
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || got.String() != string(want) {
			t.Errorf("%s: %v\ngot:\n%s", tt.name, err, got.String())
		}
		if bytes.Contains(want, []byte("null")) {
			t.Errorf("%s: a list is null", tt.name)
		}
		if strings.HasSuffix(tt.name, "_full.json") && !strings.Contains(string(page), "```json\n"+strings.TrimSpace(got.String())+"\n```") {
			t.Errorf("docs/status-json.md shows another document than localapi/testdata/%s", tt.name)
		}
	}
}
