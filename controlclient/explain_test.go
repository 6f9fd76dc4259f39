package controlclient

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"nexd/controlapi"
)

func TestExplain(t *testing.T) {
	c, err := New(Config{ServiceURL: "https://svc.example:8443"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dial := func(err error) error {
		return &url.Error{Op: "Post", URL: "https://svc.example:8443/v1/join", Err: &net.OpError{Op: "dial", Net: "tcp", Err: err}}
	}
	read := func(err error) error { return &url.Error{Op: "Get", URL: "https://svc.example:8443/", Err: err} }
	for _, tc := range []struct {
		err        error
		want, hint string
	}{
		{dial(&os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}), "svc.example:8443 refuses connections", "nexd serve"},
		{dial(syscall.ENETUNREACH), "svc.example:8443 cannot be reached from here", "network"},
		{dial(syscall.EHOSTUNREACH), "svc.example:8443 cannot be reached from here", "network"},
		{dial(&net.DNSError{Err: "no such host", Name: "svc.example", IsNotFound: true}), "host svc.example is not known", "service URL"},
		{dial(&net.DNSError{Err: "i/o timeout", Name: "svc.example", IsTimeout: true}), "the name server does not answer for svc.example", "DNS"},
		{dial(os.ErrDeadlineExceeded), "svc.example:8443 does not answer", "firewall"},
		{read(context.DeadlineExceeded), "svc.example:8443 does not answer", "firewall"},
		{read(io.EOF), "svc.example:8443 closed the connection", ""},
		{read(io.ErrUnexpectedEOF), "svc.example:8443 closed the connection", ""},
		{read(syscall.ECONNRESET), "svc.example:8443 closed the connection", ""},
		{read(http.ErrSchemeMismatch), "svc.example:8443 does not speak TLS", "HTTPS"},
		{read(errors.New("stars are wrong")), "svc.example:8443: stars are wrong", ""},
		{read(x509.UnknownAuthorityError{}), "the certificate of svc.example is signed by nobody this machine knows", "pin"},
		{read(x509.SystemRootsError{}), "this machine has no list of certificate authorities", "--ca-file"},
		{read(x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}), "the certificate of svc.example is not valid", "pin"},
		{read(&PinError{Host: "svc.example", Want: "A", Got: "B"}), "the certificate of svc.example is not the pinned one: want A, got B", "registration key"},
		{read(&controlapi.Problem{Status: 404, Detail: "no such device"}), "no such device", ""},
	} {
		got := c.explain(tc.err)
		if !strings.HasPrefix(got.Error(), tc.want) || strings.Contains(got.Error(), "/v1/") {
			t.Errorf("%v\n got  %q\n want %q", tc.err, got, tc.want)
		}
		if hint := Hint(got); !strings.Contains(hint, tc.hint) {
			t.Errorf("%v: hint %q, want …%s…", tc.err, hint, tc.hint)
		}
	}
}

func TestCertTimeHints(t *testing.T) {
	now := time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC)
	slow := &CertTimeError{Host: "svc", Now: now, NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if got := slow.Error(); got != "the certificate of svc begins 2026-01-01 00:00 UTC, and this clock says 1970-01-01 00:01 UTC" {
		t.Error(got)
	}
	if got := slow.Hint(); !strings.Contains(got, "at least 20453 days slow") {
		t.Error(got)
	}
	for d, want := range map[time.Duration]string{
		time.Second: "2 seconds", 5 * time.Minute: "5 minutes", 3 * time.Hour: "3 hours", 50 * time.Hour: "2 days",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
