package controlclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"nexd/controlapi"
)

// tlsConfig turns the ways of trust into crypto/tls's terms. host is the
// service's host without its port.
func (cfg Config) tlsConfig(host string) (*tls.Config, error) {
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	switch {
	case cfg.Insecure:
		tc.InsecureSkipVerify = true
	case cfg.Pin != "":
		// The usual checks make way for one of our own, which crypto/tls calls
		// for resumed sessions too.
		tc.InsecureSkipVerify = true
		tc.VerifyConnection = func(cs tls.ConnectionState) error {
			// An HTTPS proxy on the way is met with the same configuration.
			// The pin is not about it, so it must pass the usual checks.
			if cs.ServerName != "" && !strings.EqualFold(cs.ServerName, host) {
				return verify(cs, roots)
			}
			return checkPin(cs, cfg.Pin, host)
		}
	}
	return tc, nil
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
