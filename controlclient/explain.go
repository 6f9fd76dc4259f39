package controlclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"nexd/controlapi"
)

// notService is the error of an answer no nexd service gives.
func notService(why string, err error) error {
	return &ConnectError{
		Message: "this does not look like a nexd service: " + why,
		Advice:  "check the service URL, and what stands between",
		Err:     err, final: true,
	}
}

// explain turns what net/http says into a sentence and a hint. Errors that
// have their own type already are returned as they are, without the wrapping.
func (c *Client) explain(err error) error {
	if known := typed(err); known != nil {
		return known
	}
	host := c.base.Host
	say := func(final bool, advice, format string, args ...any) error {
		return &ConnectError{Message: fmt.Sprintf(format, args...), Advice: advice, Err: err, final: final}
	}
	if cert := c.explainCertificate(err, say); cert != nil {
		return cert
	}
	who, advice := host, "is `nexd serve` running there, and is it this port?"
	if proxy := c.proxyOf(err); proxy != "" {
		who, advice = "the proxy "+proxy, "check HTTPS_PROXY and NO_PROXY in the environment"
	}
	var dns *net.DNSError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return say(false, "check the name in the service URL, and this machine's DNS", "host %s is not known", dns.Name)
	case errors.As(err, &dns):
		return say(false, "check this machine's DNS", "the name server does not answer for %s", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return say(false, advice, "%s refuses connections", who)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return say(false, "check this machine's network", "%s cannot be reached from here", who)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return say(true, "the service speaks HTTPS only: check the port", "%s does not speak TLS", who)
	case timedOut(err):
		return say(false, "does a firewall stand between, or is the address wrong?", "%s does not answer", who)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return say(false, "", "%s closed the connection", who)
	}
	return say(false, "", "%s: %v", who, withoutURL(err))
}

// typed finds the errors that need no explanation.
func typed(err error) error {
	var (
		pin     *PinError
		dates   *CertTimeError
		connect *ConnectError
		refused *controlapi.Problem
	)
	switch {
	case errors.As(err, &pin):
		return pin
	case errors.As(err, &dates):
		return dates
	case errors.As(err, &connect):
		return connect
	case errors.As(err, &refused):
		return refused
	}
	return nil
}

// explainCertificate returns nil where err is not about a certificate.
func (c *Client) explainCertificate(err error, say func(bool, string, string, ...any) error) error {
	host := c.base.Hostname()
	var (
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		roots    x509.SystemRootsError
		other    *tls.CertificateVerificationError
	)
	const use = "use the whole registration key (it carries the service's pin), or --ca-file"
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return &CertTimeError{Host: host, Now: time.Now(), NotBefore: invalid.Cert.NotBefore, NotAfter: invalid.Cert.NotAfter}
	case errors.As(err, &unknown):
		return say(true, use, "the certificate of %s is signed by nobody this machine knows", host)
	case errors.As(err, &hostname):
		return say(true, "use the name the certificate is for in the service URL", "the certificate of %s is for another name", host)
	case errors.As(err, &roots):
		return say(true, use, "this machine has no list of certificate authorities")
	case errors.As(err, &invalid), errors.As(err, &other):
		return say(true, use, "the certificate of %s is not valid: %v", host, withoutURL(err))
	}
	return nil
}

// proxyOf returns the HTTP proxy where err is about reaching that.
func (c *Client) proxyOf(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "proxyconnect" {
		return ""
	}
	proxy, err := c.transport.Proxy(&http.Request{URL: c.base})
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host
}

// proxyAnswer judges an HTTP proxy's answer to CONNECT.
func proxyAnswer(_ context.Context, proxy *url.URL, req *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &ConnectError{
		Message: fmt.Sprintf("the proxy %s does not connect to %s: %s", proxy.Host, req.Host, printable(resp.Status)),
		Advice:  "check HTTPS_PROXY and NO_PROXY in the environment",
	}
}

func timedOut(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return true
	}
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// withoutURL drops net/http's prefix, which repeats method and URL.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
