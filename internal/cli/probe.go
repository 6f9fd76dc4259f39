package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"nexd/controlapi"
	"nexd/node"
)

// probeService opens one TLS connection to the control service and closes it.
// It returns nil when the configuration names no service: then it is the one
// that was joined before.
func probeService(ctx context.Context, c *node.Config) *checkService {
	var key controlapi.RegKey
	if c.RegKey != "" {
		key, _ = controlapi.ParseRegKey(c.RegKey) // checked by Validate
	}
	target := c.ServiceURL
	if target == "" {
		target = key.ServiceURL
	}
	if target == "" {
		return nil
	}
	s := &checkService{URL: target}
	if err := handshake(ctx, target, key.Pin, c); err != nil {
		s.Error = err.Error()
	}
	return s
}

func handshake(ctx context.Context, target string, pin controlapi.Pin, c *node.Config) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.InsecureSkipTLSVerify || pin != ""}
	if c.CAFile != "" {
		pem, err := readFile(c.CAFile, maxConfig)
		if err != nil {
			return err
		}
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--ca-file %s holds no certificate", c.CAFile)
		}
	}
	if pin != "" && !c.InsecureSkipTLSVerify {
		conf.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 && pin.Matches(state.PeerCertificates[0].RawSubjectPublicKeyInfo) {
				return nil
			}
			return errors.New("its certificate is not the one the registration key pins")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}
