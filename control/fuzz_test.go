package control

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// Only what this service made, and only unchanged, is a token.
func FuzzChallengeToken(f *testing.F) {
	private := key.NewPrivate()
	c, err := newChallenger(private, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	other, err := newChallenger(key.NewPrivate(), time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	good := c.challenge(now).Token
	f.Add(good)
	f.Add(other.challenge(now).Token)
	f.Add("")
	f.Add(strings.Repeat("A", len(good)))
	f.Add(good[:len(good)-1] + "B")
	f.Fuzz(func(t *testing.T, token string) {
		if err := c.check(token, now); (err == nil) != (token == good) {
			t.Errorf("token %q: %v", token, err)
		}
		if c.check(token, now.Add(2*time.Hour)) == nil {
			t.Errorf("token %q never expires", token)
		}
	})
}

// No body of a join makes the service do more than refuse it with a whole
// problem, as long as it proves nothing.
func FuzzJoinBody(f *testing.F) {
	whole, err := json.Marshal(controlapi.JoinRequest{RegKey: "k", PublicKey: key.NewPrivate().Public(), Token: "t", Proof: make([]byte, 32), Name: "n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"request_ip":"::ffff:100.64.0.1"}`))
	f.Add([]byte(strings.Replace(string(whole), `"name":"n"`, `"name":"n","request_ip":"1.2.3.4","on_name_taken":"number"`, 1)))
	fuzzBody(f, "/v1/join")
}

// The same goes for a relay's.
func FuzzRelayJoinBody(f *testing.F) {
	whole, err := json.Marshal(controlapi.RelayJoinRequest{
		RegKey: "k", PublicKey: key.NewPrivate().Public(), Token: "t", Proof: make([]byte, 32), Name: "n", RelayAddress: relayAddress("n"),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"udp":[null],"pin":5}`))
	f.Add([]byte(strings.Replace(string(whole), `"udp":[`, `"udp":["[::1]:70000",`, 1)))
	fuzzBody(f, "/v1/relays")
}

func fuzzBody(f *testing.F, path string) {
	var once sync.Once
	var handler http.Handler
	var svc *Service
	dir := f.TempDir()
	f.Cleanup(func() {
		if svc != nil {
			svc.Close()
		}
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		once.Do(func() {
			s, err := New(testConfig(dir))
			if err != nil {
				t.Fatal(err)
			}
			svc, handler = s, s.server().Handler
		})
		r := httptest.NewRequest("POST", path, strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		var p controlapi.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Status != rec.Code || rec.Code < 400 || rec.Code >= 500 || p.Code == "" {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}
