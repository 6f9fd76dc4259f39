package controlclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"nexd/controlapi"
)

// trust is whom a client believes, in crypto/tls's terms.
type trust struct {
	insecure bool
	pin      controlapi.Pin // of the service
	roots    *x509.CertPool // nil: the system's
}

func (cfg Config) trust() (*trust, error) {
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	return &trust{insecure: cfg.Insecure, pin: cfg.Pin, roots: roots}, nil
}

// forService is for connections to the service; host is its name without the port.
func (t *trust) forService(host string) *tls.Config { return t.config(host, t.pin) }

// forRelay is for connections to a relay with a URL of its own. A pin, which
// came from the service, is checked even where other certificates are not.
func (t *trust) forRelay(r controlapi.Relay) *tls.Config {
	var host string
	if u, err := url.Parse(r.URL); err == nil {
		host = u.Hostname()
	}
	own := *t
	own.insecure = t.insecure && r.Pin == ""
	return own.config(host, r.Pin)
}

func (t *trust) config(host string, pin controlapi.Pin) *tls.Config {
	tc := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.roots}
	switch {
	case t.insecure:
		tc.InsecureSkipVerify = true
	case pin != "":
		// The usual checks make way for one of our own, which crypto/tls calls
		// for resumed sessions too.
		tc.InsecureSkipVerify = true
		tc.VerifyConnection = func(cs tls.ConnectionState) error {
			// An HTTPS proxy on the way is met with the same configuration.
			// The pin is not about it, so it must pass the usual checks.
			if cs.ServerName != "" && !strings.EqualFold(cs.ServerName, host) {
				return verify(cs, t.roots)
			}
			return checkPin(cs, pin, host)
		}
	}
	return tc
}

// roots returns the authorities to trust; nil stands for the system's.
func (cfg Config) roots() (*x509.CertPool, error) {
	if cfg.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine without authorities of its own
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s: no certificate in it: want PEM, beginning with -----BEGIN CERTIFICATE-----", cfg.CAFile)
	}
	return pool, nil
}

// checkPin compares the leaf's key; possession of it was proved by the handshake.
func checkPin(cs tls.ConnectionState, pin controlapi.Pin, host string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	spki := cs.PeerCertificates[0].RawSubjectPublicKeyInfo
	if !pin.Matches(spki) {
		return &PinError{Host: host, Want: pin, Got: controlapi.PinOf(spki)}
	}
	return nil
}

// verify does what crypto/tls does unless told to skip it.
func verify(cs tls.ConnectionState, roots *x509.CertPool) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, DNSName: cs.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := cs.PeerCertificates[0].Verify(opts)
	return err
}
