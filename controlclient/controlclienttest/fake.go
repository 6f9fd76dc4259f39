package controlclienttest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
	"nexd/test/need"
)

// Secrets of every fake.
const (
	RegSecret  = "fake-registration-secret"
	AdminToken = "fake-admin-token"
)

// Heartbeat is how often a quiet stream gets a line.
const Heartbeat = 200 * time.Millisecond

// Fake is a control service in memory. It is safe for concurrent use.
type Fake struct {
	tb     testing.TB
	cert   tls.Certificate
	addr   string // fixed by the first Start
	server key.Private

	mu        sync.Mutex // guards the fields below
	http      *http.Server
	served    chan struct{} // closed when http's Serve has returned
	intercept func(http.ResponseWriter, *http.Request) bool
	requests  map[string]int
	heartbeat time.Duration
	network   network
	relays    relays
	streams   map[*stream]struct{}
	changed   chan struct{} // closed and replaced when streams or requests change
}

// NewFake starts a service with a certificate of its own making, valid now; it
// ends with the test.
func NewFake(tb testing.TB) *Fake {
	tb.Helper()
	return NewFakeOn(tb, loopback(tb))
}

// loopback is an address whose port nobody is given while the service is away.
func loopback(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprintf("127.0.0.1:%d", need.Port(tb))
}

// NewFakeOn is NewFake on an address of loopback; the certificate names only
// 127.0.0.1, ::1 and localhost.
func NewFakeOn(tb testing.TB, addr string) *Fake {
	tb.Helper()
	return start(tb, addr, SelfSigned(tb, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)))
}

// NewFakeWithCertificate starts a service that shows cert.
func NewFakeWithCertificate(tb testing.TB, cert tls.Certificate) *Fake {
	tb.Helper()
	return start(tb, loopback(tb), cert)
}

func start(tb testing.TB, addr string, cert tls.Certificate) *Fake {
	tb.Helper()
	f := &Fake{
		tb: tb, cert: cert, addr: addr, server: key.NewPrivate(),
		requests: map[string]int{}, heartbeat: Heartbeat,
		network: newNetwork(), relays: newRelays(), streams: map[*stream]struct{}{}, changed: make(chan struct{}),
	}
	f.Start()
	tb.Cleanup(f.Stop)
	return f
}

// Start makes a stopped service answer again, at the same address and with the
// membership it had.
func (f *Fake) Start() {
	f.tb.Helper()
	inner, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.tb.Fatalf("fake control service: %v", err)
	}
	f.addr = inner.Addr().String()
	l := tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{f.cert}, MinVersion: tls.VersionTLS12})
	srv := &http.Server{Handler: f, ReadHeaderTimeout: 5 * time.Second, ErrorLog: quiet}
	served := make(chan struct{})
	f.mu.Lock()
	f.http, f.served = srv, served
	f.mu.Unlock()
	go func() {
		defer close(served)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.tb.Errorf("fake control service: %v", err)
		}
	}()
}

// Stop cuts every connection without a word, as kill -9 does, and refuses new
// ones. It does nothing to a stopped service.
func (f *Fake) Stop() {
	f.mu.Lock()
	srv, served := f.http, f.served
	f.http = nil
	f.mu.Unlock()
	if srv == nil {
		return
	}
	srv.Close()
	<-served
	f.CutStreams()
}

// URL is the service's URL.
func (f *Fake) URL() string { return "https://" + f.addr }

// Pin is the pin of its certificate.
func (f *Fake) Pin() controlapi.Pin { return PinOf(f.tb, f.cert) }

// RegKey is a registration key that never ends.
func (f *Fake) RegKey() controlapi.RegKey {
	return controlapi.RegKey{ServiceURL: f.URL(), Secret: RegSecret, Pin: f.Pin()}
}

// AdminFile is what nexctl is given.
func (f *Fake) AdminFile() controlapi.AdminFile {
	return controlapi.AdminFile{URL: f.URL(), Token: AdminToken, Pin: string(f.Pin())}
}

// CAFile writes its certificate to a file and returns the file's path.
func (f *Fake) CAFile() string {
	f.tb.Helper()
	path := filepath.Join(f.tb.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.cert.Certificate[0]})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		f.tb.Fatal(err)
	}
	return path
}

// Intercept lets answer see every request first; it returns true for those it
// answered. nil ends that.
func (f *Fake) Intercept(answer func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = answer
}

// SetHeartbeat changes how often quiet streams get a line; streams that are
// open keep their pace.
func (f *Fake) SetHeartbeat(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heartbeat = d
}

// Requests returns how many requests for method and path ("POST /v1/join")
// have come in.
func (f *Fake) Requests(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[what]
}

// ServeHTTP is the service's API.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests[r.Method+" "+r.URL.Path]++
	f.announce()
	intercept := f.intercept
	f.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	f.routes().ServeHTTP(w, r)
}

// announce wakes Wait; mu is held.
func (f *Fake) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Wait waits until ok, which is asked again after each request and each change
// of the streams; it fails the test after ten seconds.
func (f *Fake) Wait(what string, ok func() bool) {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.tb.Fatalf("waited in vain for %s", what)
		}
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// Refuse answers with a problem.
func Refuse(w http.ResponseWriter, p controlapi.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
