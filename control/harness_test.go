package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/controlapi"
	"nexd/key"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(serveAsChild(dir))
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// world is a running service and an HTTP client that trusts its pin.
type world struct {
	t     *testing.T
	svc   *Service
	dir   string
	base  string
	token string
	http  *http.Client
	nginx bool // stands between, and takes headers that are for it
	end   func() error
}

func testConfig(dir string) Config {
	return Config{
		Listen: "127.0.0.1:0", STUNListen: "127.0.0.1:0", StateDir: dir, Version: "test",
		JoinRate: Rate{PerSecond: 1e6, Burst: 1e6}, JoinRateAll: Rate{PerSecond: 1e6, Burst: 1e6},
		UpdateRate: Rate{PerSecond: 1e6, Burst: 1e6},
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) { l.t.Logf("%s", bytes.TrimSpace(b)); return len(b), nil }

// start runs a service until the test ends or w.end is called.
func start(t *testing.T, dir string, change ...func(*Config)) *world {
	t.Helper()
	cfg := testConfig(dir)
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	for _, f := range change {
		f(&cfg)
	}
	svc, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	w := &world{t: t, svc: svc, dir: dir, base: "https://" + svc.Addr().String(), token: readAdmin(t, dir).Token}
	ended := false
	w.end = func() error {
		if ended {
			return nil
		}
		ended = true
		w.http.CloseIdleConnections()
		cancel()
		return <-done
	}
	w.http = client(t, svc.pin())
	t.Cleanup(func() {
		if err := w.end(); err != nil {
			t.Error(err)
		}
	})
	<-svc.Ready()
	return w
}

func client(t *testing.T, pin controlapi.Pin) *http.Client {
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if !pin.Matches(s.PeerCertificates[0].RawSubjectPublicKeyInfo) {
				return fmt.Errorf("the certificate is not that of the pin")
			}
			return nil
		},
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func readAdmin(t *testing.T, dir string) controlapi.AdminFile {
	t.Helper()
	var a controlapi.AdminFile
	b, err := os.ReadFile(filepath.Join(dir, adminFile))
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// send makes a request and decodes a good answer into out; a refusal is returned.
func (w *world) send(method, path, token string, in, out any) (*controlapi.Problem, *http.Response) {
	w.t.Helper()
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case string:
		body = bytes.NewReader([]byte(in))
	default:
		b, err := json.Marshal(in)
		if err != nil {
			w.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := w.http.Do(req)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
		return &controlapi.Problem{Title: err.Error()}, &http.Response{Header: http.Header{}}
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
	}
	if res.StatusCode < 300 {
		if out != nil {
			if err := json.Unmarshal(content, out); err != nil {
				w.t.Errorf("%s %s: %v in %s", method, path, err, content)
			}
		}
		return nil, res
	}
	var p controlapi.Problem
	if err := json.Unmarshal(content, &p); err != nil || p.Status != res.StatusCode || p.Code == "" || p.Detail == "" {
		w.t.Errorf("%s %s: %s is no whole problem: %s", method, path, res.Status, content)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		w.t.Errorf("%s %s: %s with content type %q", method, path, res.Status, ct)
	}
	return &p, res
}

// admin makes a request that has to succeed.
func (w *world) admin(method, path string, in, out any) {
	w.t.Helper()
	if p, _ := w.send(method, path, w.token, in, out); p != nil {
		w.t.Fatalf("%s %s: %v", method, path, p)
	}
}

// regKey makes a key and returns its secret.
func (w *world) regKey(r controlapi.RegKeyRequest) string {
	w.t.Helper()
	var made controlapi.RegKeyCreated
	w.admin("POST", "/v1/reg-keys", r, &made)
	k, err := controlapi.ParseRegKey(made.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	return k.Secret
}

// device is a device under test.
type device struct {
	controlapi.JoinResponse
	private key.Private
}

// wish is a join without its proof.
func wish(secret, name string) controlapi.JoinRequest {
	return controlapi.JoinRequest{RegKey: secret, Name: name, Version: "1", OS: "linux"}
}

// prove completes a join with a challenge and the proof of private.
func (w *world) prove(private key.Private, r controlapi.JoinRequest) controlapi.JoinRequest {
	w.t.Helper()
	var c controlapi.Challenge
	if p, _ := w.send("POST", "/v1/challenge", "", nil, &c); p != nil {
		w.t.Errorf("challenge: %v", p)
	}
	r.PublicKey, r.Token = private.Public(), c.Token
	proof, err := private.Proof(c.ServerKey, controlapi.ProofLabel, r.Transcript())
	if err != nil {
		w.t.Error(err)
	}
	r.Proof = proof[:]
	return r
}

func (w *world) tryJoin(private key.Private, r controlapi.JoinRequest) (device, *controlapi.Problem) {
	w.t.Helper()
	d := device{private: private}
	p, _ := w.send("POST", "/v1/join", "", w.prove(private, r), &d.JoinResponse)
	return d, p
}

func (w *world) join(r controlapi.JoinRequest) device {
	w.t.Helper()
	d, p := w.tryJoin(key.NewPrivate(), r)
	if p != nil {
		w.t.Fatalf("join %s: %v (%s)", r.Name, p, p.Hint)
	}
	return d
}

func (w *world) refused(p *controlapi.Problem, want controlapi.Code) {
	w.t.Helper()
	if p == nil {
		w.t.Errorf("not refused, want %s", want)
	} else if p.Code != want {
		w.t.Errorf("refused with %s (%v), want %s", p.Code, p, want)
	}
}

// eventually polls until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		<-tick.C
	}
}

// h1 is a raw HTTP/1.1 connection.
func (w *world) h1() net.Conn {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.svc.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

func jsonBody(v any) io.Reader {
	if v == nil {
		return http.NoBody
	}
	b, _ := json.Marshal(v)
	return bytes.NewReader(b)
}

func decode(r io.Reader, v any) error { return json.NewDecoder(r).Decode(v) }
