package main

import (
	"crypto/ecdh"
	"encoding/hex"
	"strings"
	"testing"
)

func TestParseProc(t *testing.T) {
	if ns, err := parseSchedstat([]byte("123456789 42 7\n")); err != nil || ns != 123456789 {
		t.Errorf("schedstat: %d, %v", ns, err)
	}
	if _, err := parseSchedstat([]byte("\n")); err == nil {
		t.Error("an empty schedstat has a number")
	}
	if rss, err := parseRSS([]byte("Name:\tnexd\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t9\n")); err != nil || rss != 10240*1024 {
		t.Errorf("status: %g, %v", rss, err)
	}
	for _, bad := range []string{"Name:\tkthread\n", "\nVmRSS:", "\nVmRSS:\tmany kB\n"} {
		if _, err := parseRSS([]byte(bad)); err == nil {
			t.Errorf("%q has a VmRSS", bad)
		}
	}
	if got := parseSteal("cpu  1 2 3 4 5 6 7 850 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n"); got != 8.5 {
		t.Errorf("steal: %g", got)
	}
	if got := parseSteal("cpu 1 2\n"); got != 0 {
		t.Errorf("steal of an old kernel: %g", got)
	}
}

func TestParsePath(t *testing.T) {
	const status = `{"peers":[{"name":"other","path":{"kind":"none"}},
		{"name":"ingress","mtu":1420,"path":{"kind":"%","transport":"tls"}}]}`
	for kind, want := range map[string]string{"direct": "direct", "relay": "tls", "none": "none"} {
		got, size, err := parsePath([]byte(strings.Replace(status, "%", kind, 1)), "ingress")
		if err != nil || got != want || size != 1420 {
			t.Errorf("%s: %q, %d, %v", kind, got, size, err)
		}
	}
	if _, _, err := parsePath([]byte(status), "nobody"); err == nil {
		t.Error("a peer that is not there has a path")
	}
	if _, _, err := parsePath([]byte("not ready"), "ingress"); err == nil {
		t.Error("words have a path")
	}
}

// The vector of docs/protocol.md.
func TestProof(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	private, err := ecdh.X25519().NewPrivateKey(unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
	if err != nil {
		t.Fatal(err)
	}
	mac, err := proof(private, unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"), "an example", []byte("a message"))
	if got := hex.EncodeToString(mac); err != nil || got != "fd448b740c4fa96d8c45738df572c6376c0dc092acd2adc345faa669a7e852b6" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestFlags(t *testing.T) {
	o, err := parseFlags([]string{"-only", "tcp", "-quick"})
	if err != nil || o.rounds != 1 || !o.only.MatchString("tcp 1 up") || o.only.MatchString("udp 5k/s") {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-only", "("}, {"-systems", "["}, {"-rounds", "0"}, {"-seconds", "-1"}, {"-old", "/nowhere/old.json"}, {"-old", "/nowhere"}, {"tcp"}} {
		if _, err := parseFlags(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
