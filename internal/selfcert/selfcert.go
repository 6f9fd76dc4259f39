package selfcert

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"nexd/internal/logkey"
)

// A self-made certificate is valid for a year and made again, with the same
// key, when a month is left: the pin is that of the key. It begins a day in
// the past for clients whose clock is behind.
const (
	life      = 365 * 24 * time.Hour
	renew     = 30 * 24 * time.Hour
	before    = 24 * time.Hour
	givenTick = 10 * time.Second // how often given files are looked at
	ownTick   = 12 * time.Hour   // how often the self-made one is
)

// Attributes of log lines that only this package has.
const (
	logHost  = "host"
	logFrom  = "from"
	logUntil = "until"
)

// Certificate is what a listener shows. It is safe for concurrent use, but for
// Run, which one goroutine calls.
type Certificate struct {
	log     *slog.Logger
	files   Files
	current atomic.Pointer[tls.Certificate] // never nil; its Leaf is set

	given bool
	host  atomic.Pointer[string] // that clients ask for, of given files
	stamp [2]fileStamp           // of the given files as loaded; used by one goroutine
	own   *ecdsa.PrivateKey
	made  Own
}

// Files are PEM: a chain, the leaf first, and its private key.
type Files struct{ Cert, Key string }

// Get is for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// Leaf is the certificate that is shown now. It must not be changed.
func (c *Certificate) Leaf() *x509.Certificate { return c.current.Load().Leaf }

// SPKI is what clients pin, the DER of the self-made key's
// SubjectPublicKeyInfo; nil for given files, which are checked the usual way.
func (c *Certificate) SPKI() []byte {
	if c.given {
		return nil
	}
	return c.Leaf().RawSubjectPublicKeyInfo
}

// ServeAs notes the host clients will ask for, and says in the log what they
// will not accept of a given certificate, now and when its files change.
func (c *Certificate) ServeAs(host string) {
	if c.given {
		c.host.Store(&host)
		c.warn(time.Now())
	}
}

// Run keeps the certificate current until ctx ends.
func (c *Certificate) Run(ctx context.Context) {
	every := ownTick
	if c.given {
		every = givenTick
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
			c.log.Error("certificate not renewed, the old one stays", logkey.File, c.files.Cert, logkey.Err, err)
		}
	}
}

func (c *Certificate) refresh(now time.Time) error {
	if !c.given {
		return c.issue(now)
	}
	changed, err := c.reload()
	if changed && err == nil {
		c.log.Info("certificate reloaded", logkey.File, c.files.Cert)
		c.warn(now)
	}
	return err
}

// warn names what clients will refuse.
func (c *Certificate) warn(now time.Time) {
	host, leaf := c.host.Load(), c.Leaf()
	switch {
	case host == nil:
	case now.After(leaf.NotAfter):
		c.log.Warn("the certificate is over: clients will refuse it", logkey.File, c.files.Cert, logUntil, leaf.NotAfter.UTC())
	case now.Before(leaf.NotBefore):
		c.log.Warn("the certificate is not valid yet by this machine's clock: clients will refuse it", logkey.File, c.files.Cert, logFrom, leaf.NotBefore.UTC())
	case leaf.VerifyHostname(*host) != nil:
		c.log.Warn("the certificate is not for the host clients ask for: they will refuse it unless something in front shows another", logkey.File, c.files.Cert, logHost, *host)
	}
}

// errForeign says that a stored certificate is of no use, and another is made.
var errForeign = errors.New("not the certificate that is wanted")
