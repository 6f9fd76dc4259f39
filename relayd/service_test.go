package relayd

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/controlclient/controlclienttest"
	"nexd/key"
	"nexd/relay"
)

// deviceSecret is of a registration key whose role is device.
const deviceSecret = "a-key-for-devices"

// service is a control service that knows relays: the fake, with their requests
// answered here.
type service struct {
	*controlclienttest.Fake
	t       testing.TB
	private key.Private

	mu         sync.Mutex // guards the fields below
	issuer     ed25519.PrivateKey
	issuers    [][]byte // told to relays; nil: issuer's
	public     key.Public
	credential string // of the relay that registered; empty: none
	joins      int
	beats      []controlapi.RelayHeartbeat
	denied     []controlapi.RelayDenied // all since the beginning
	page       int                      // how many of them are told at once; 0: all
	refuse     *controlapi.Problem      // of joins
}

func newService(t testing.TB) *service {
	t.Helper()
	_, issuer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{Fake: controlclienttest.NewFake(t), t: t, private: key.NewPrivate(), issuer: issuer}
	s.Intercept(s.answer)
	return s
}

// answer takes the requests of relays.
func (s *service) answer(w http.ResponseWriter, r *http.Request) bool {
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/challenge":
		reply(w, controlapi.Challenge{ServerKey: s.private.Public(), Token: "challenge"})
	case "POST /v1/relays":
		s.join(w, r)
	case "PUT /v1/relays/self":
		s.beat(w, r)
	default:
		return false
	}
	return true
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func (s *service) join(w http.ResponseWriter, r *http.Request) {
	var req controlapi.RelayJoinRequest
	err := json.NewDecoder(r.Body).Decode(&req)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joins++
	refuse := func(code controlapi.Code, detail, hint string) {
		controlclienttest.Refuse(w, controlapi.Problem{Status: http.StatusForbidden, Code: code, Detail: detail, Hint: hint})
	}
	switch {
	case err != nil || req.RelayAddress.Check() != nil || controlapi.CheckName(req.Name) != nil:
		refuse(controlapi.CodeInvalid, "not a relay's request", "")
	case s.refuse != nil:
		controlclienttest.Refuse(w, *s.refuse)
	case req.RegKey == deviceSecret:
		refuse(controlapi.CodeKeyRole, "this registration key is for devices", "make one for relays with nexctl reg-key create --relay")
	case req.RegKey != controlclienttest.RegSecret:
		refuse(controlapi.CodeKeyUnknown, "no such registration key", "")
	case !s.private.VerifyProof(req.PublicKey, controlapi.RelayProofLabel, req.Transcript(), req.Proof):
		refuse(controlapi.CodeProof, "possession of the key is not proved", "")
	default:
		s.public, s.credential = req.PublicKey, fmt.Sprintf("credential-%d", s.joins)
		s.beats = append(s.beats, controlapi.RelayHeartbeat{RelayAddress: req.RelayAddress})
		reply(w, controlapi.RelayJoinResponse{ID: "rly_1", Name: req.Name, Credential: s.credential, Issuers: s.toldLocked()})
	}
}

func (s *service) beat(w http.ResponseWriter, r *http.Request) {
	var req controlapi.RelayHeartbeat
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		s.t.Errorf("heartbeat: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); s.credential == "" || token != s.credential {
		controlclienttest.Refuse(w, controlapi.Problem{Status: http.StatusUnauthorized, Code: controlapi.CodeUnauthorized, Detail: "unknown relay"})
		return
	}
	s.beats = append(s.beats, req)
	from := min(req.Since, uint64(len(s.denied)))
	until := uint64(len(s.denied))
	if s.page > 0 {
		until = min(until, from+uint64(s.page))
	}
	reply(w, controlapi.RelayHeartbeatAnswer{
		Issuers: s.toldLocked(), Denied: s.denied[from:until], Next: until, More: until < uint64(len(s.denied)),
	})
}

func (s *service) toldLocked() [][]byte {
	if s.issuers != nil {
		return s.issuers
	}
	return [][]byte{s.issuer.Public().(ed25519.PublicKey)}
}

// with reads or changes the service.
func (s *service) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// last is the newest report, by joining or by heartbeat.
func (s *service) last() (beat controlapi.RelayHeartbeat) {
	s.with(func() {
		if len(s.beats) > 0 {
			beat = s.beats[len(s.beats)-1]
		}
	})
	return beat
}

// heartbeats waits for n more.
func (s *service) heartbeats(n int) {
	s.t.Helper()
	count := func() (n int) {
		s.with(func() { n = len(s.beats) })
		return n
	}
	want := count() + n
	waitFor(s.t, "heartbeats", func() bool { return count() >= want })
}

// admits makes a credential for a device.
func (s *service) admits(device key.Public, network string, life time.Duration) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return relay.Credential{Device: device, Network: relay.NetworkOf(network), Expires: time.Now().Add(life)}.Sign(s.issuer)
}
