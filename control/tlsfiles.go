package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"nexd/controlapi"
	"nexd/internal/logkey"
)

// A self-made certificate is valid for a year and made again, with the same
// key, when a month is left: the pin is that of the key. It begins a day in
// the past for clients whose clock is behind.
const (
	certLife   = 365 * 24 * time.Hour
	certRenew  = 30 * 24 * time.Hour
	certBefore = 24 * time.Hour
	certPoll   = 10 * time.Second // how often given files are looked at
	certCheck  = 12 * time.Hour   // how often the self-made one is
)

// certificates holds the certificate the listener shows.
type certificates struct {
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]

	// Given files, or the self-made key with the names its certificate is for.
	certPath, keyPath string
	given             bool
	host              string       // of the public URL, for given files
	stamp             [2]fileStamp // of the given files as loaded; used by one goroutine
	own               *ecdsa.PrivateKey
	names             []string
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// givenCertificates loads the files the configuration names.
func givenCertificates(cfg *Config) (*certificates, error) {
	c := &certificates{log: cfg.Log, certPath: cfg.TLSCert, keyPath: cfg.TLSKey, given: true}
	if _, err := c.reload(); err != nil {
		return nil, &StartError{
			Message: fmt.Sprintf("--tls-cert, --tls-key: %v", err), Wrong: true, Err: err,
			Advice: "give a PEM chain, the service's own certificate first, and its private key; or neither for a self-made certificate",
		}
	}
	return c, nil
}

// ownCertificates loads the self-made key of the state directory, made when
// there is none.
func ownCertificates(cfg *Config) (*certificates, error) {
	c := &certificates{
		log: cfg.Log, certPath: filepath.Join(cfg.StateDir, certFile), keyPath: filepath.Join(cfg.StateDir, keyFile),
	}
	var err error
	if c.own, err = loadOrMakeKey(c.keyPath); err != nil {
		return nil, err
	}
	return c, nil
}

// serve notes the public URL, and says in the log what devices will not accept
// of a given certificate.
func (c *certificates) serve(publicURL string, now time.Time) {
	if u, err := url.Parse(publicURL); err == nil {
		c.host = u.Hostname()
	}
	c.warn(now)
}

func (c *certificates) warn(now time.Time) {
	cert := c.current.Load()
	if cert == nil || c.host == "" {
		return
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	switch {
	case err != nil:
	case now.After(leaf.NotAfter):
		c.log.Warn("the certificate is over: devices will refuse it", logkey.File, c.certPath, logUntil, leaf.NotAfter.UTC())
	case now.Before(leaf.NotBefore):
		c.log.Warn("the certificate is not valid yet by this machine's clock: devices will refuse it", logkey.File, c.certPath, logFrom, leaf.NotBefore.UTC())
	case leaf.VerifyHostname(c.host) != nil:
		c.log.Warn("the certificate is not for the host of the public URL: devices will refuse it unless something in front shows another", logkey.File, c.certPath, logHost, c.host)
	}
}

// pin is the pin of the self-made key; a given certificate is checked the usual way.
func (c *certificates) pin() controlapi.Pin {
	if c.given {
		return ""
	}
	spki, err := x509.MarshalPKIXPublicKey(&c.own.PublicKey)
	if err != nil {
		panic("control: P-256 key refused: " + err.Error())
	}
	return controlapi.PinOf(spki)
}

// get is for tls.Config.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("no certificate")
}

// run keeps the certificate current until ctx ends.
func (c *certificates) run(ctx context.Context) {
	every := certCheck
	if c.given {
		every = certPoll
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.refresh(time.Now()); err != nil {
			c.log.Error("certificate not renewed, the old one stays", logkey.File, c.certPath, logkey.Err, err)
		}
	}
}

func (c *certificates) refresh(now time.Time) error {
	if !c.given {
		return c.issue(c.names, now)
	}
	changed, err := c.reload()
	if changed && err == nil {
		c.log.Info("certificate reloaded", logkey.File, c.certPath)
		c.warn(now)
	}
	return err
}

// reload reads the given files when they changed since they were read last.
func (c *certificates) reload() (changed bool, err error) {
	var stamp [2]fileStamp
	for i, path := range []string{c.certPath, c.keyPath} {
		st, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		stamp[i] = fileStamp{modified: st.ModTime(), size: st.Size()}
	}
	if stamp == c.stamp {
		return false, nil
	}
	cert, err := tls.LoadX509KeyPair(c.certPath, c.keyPath)
	if err != nil {
		return false, err
	}
	c.stamp = stamp
	c.current.Store(&cert)
	return true, nil
}

// issue makes sure that the self-made certificate is for names and valid for a
// while; a stored one that is stays in use.
func (c *certificates) issue(names []string, now time.Time) error {
	c.names = names
	if cert, err := c.loadOwn(names, now); err == nil {
		c.current.Store(cert)
		return nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "nexd control service"},
		NotBefore:    now.Add(-certBefore), NotAfter: now.Add(certLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &c.own.PublicKey, c.own)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	c.current.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.own})
	return writeFile(c.certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// loadOwn returns the stored certificate if it will do.
func (c *certificates) loadOwn(names []string, now time.Time) (*tls.Certificate, error) {
	content, err := os.ReadFile(c.certPath)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	have := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		have = append(have, ip.String())
	}
	slices.Sort(have)
	switch {
	case !c.own.PublicKey.Equal(cert.PublicKey):
		return nil, errors.New("of another key")
	case now.Before(cert.NotBefore), now.Add(certRenew).After(cert.NotAfter):
		return nil, errors.New("near its end")
	case !slices.Equal(have, slices.Sorted(slices.Values(names))):
		return nil, errors.New("for other names")
	}
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: c.own, Leaf: cert}, nil
}

// loadOrMakeKey keeps a key that cannot be read: the pins that were handed out
// depend on it.
func loadOrMakeKey(path string) (*ecdsa.PrivateKey, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read TLS key: %w", err)
	}
	if content == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make TLS key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("make TLS key: %w", err)
		}
		return k, writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	damaged := fmt.Errorf("TLS key %s cannot be read: bring it back from a backup, or remove it (then every registration key has to be made anew)", path)
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, damaged
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	k, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || k.Curve != elliptic.P256() {
		return nil, damaged
	}
	return k, nil
}
