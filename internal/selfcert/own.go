package selfcert

import (
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
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"nexd/internal/durable"
)

// Own says what to make.
type Own struct {
	// Subject is the common name in the certificate: what shows it.
	Subject string
	// Names are host names and IP addresses, besides localhost and loopback. What
	// a certificate cannot hold is left out: clients go by the pin.
	Names []string
	// Lost says in an error what the loss of the key means: "then every
	// registration key has to be made anew".
	Lost string
}

// maxFile is the largest key or certificate read, in bytes.
const maxFile = 1 << 20

// Make loads the key and the certificate, and makes what is not there or of no
// use any more. A key that cannot be read is an error, and stays: pins that were
// handed out depend on it. A nil log is silent.
func Make(files Files, own Own, log *slog.Logger) (*Certificate, error) {
	own.Names = certNames(own.Names)
	c := &Certificate{log: orSilent(log), files: files, made: own}
	var err error
	if c.own, err = loadOrMakeKey(files.Key, own.Lost); err != nil {
		return nil, err
	}
	if err := c.issue(time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

// certNames are the names a self-made certificate is for: sorted, each once,
// and none that a certificate cannot hold.
func certNames(wanted []string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, name := range wanted {
		if ip, err := netip.ParseAddr(name); err == nil {
			if ip.IsUnspecified() {
				continue
			}
			name = ip.Unmap().WithZone("").String()
		}
		// A certificate holds ASCII names only.
		if name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// issue makes sure that the self-made certificate is valid for a while; a
// stored one that is stays in use.
func (c *Certificate) issue(now time.Time) error {
	if cert, err := c.stored(now); err == nil {
		c.current.Store(cert)
		return nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: c.made.Subject},
		NotBefore:    now.Add(-before), NotAfter: now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range c.made.Names {
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
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	c.current.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.own, Leaf: leaf})
	return durable.WriteFile(c.files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// stored returns the certificate on disk if it will do.
func (c *Certificate) stored(now time.Time) (*tls.Certificate, error) {
	content, err := durable.ReadFile(c.files.Cert, maxFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errForeign
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	have := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		have = append(have, ip.String())
	}
	slices.Sort(have)
	switch {
	case !c.own.PublicKey.Equal(leaf.PublicKey), !slices.Equal(have, c.made.Names):
		return nil, errForeign
	case now.Before(leaf.NotBefore), now.Add(renew).After(leaf.NotAfter):
		return nil, errForeign
	}
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: c.own, Leaf: leaf}, nil
}

func loadOrMakeKey(path, lost string) (*ecdsa.PrivateKey, error) {
	content, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read TLS key: %w", err)
	}
	if content == nil {
		return makeKey(path)
	}
	k, err := parseKey(content)
	if err != nil {
		return nil, fmt.Errorf("TLS key %s cannot be read: bring it back from a backup, or remove it (%s)", path, lost)
	}
	return k, nil
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make TLS key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("make TLS key: %w", err)
	}
	return k, durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// parseKey reads a P-256 key in PKCS#8; its error repeats nothing of it.
func parseKey(content []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	k, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("not a P-256 key in PKCS#8")
	}
	return k, nil
}
