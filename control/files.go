package control

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nexd/controlapi"
	"nexd/internal/durable"
	"nexd/internal/selfcert"
)

// Files in the state directory.
const (
	databaseFile = "control.db"
	lockFile     = "control.lock"
	adminFile    = "admin.json"
	certFile     = "tls.crt"
	keyFile      = "tls.key"
)

// maxAdminFile is the largest admin file read, in bytes.
const maxAdminFile = 64 << 10

// lockDir makes the state directory and keeps other services out of it until
// the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := durable.Lock(dir, lockFile)
	return f, taken(err, "another control service uses the state directory "+dir, "")
}

// lockDatabase keeps other services out of a database that is elsewhere, in the
// same manner; nil: it is in the state directory.
func lockDatabase(cfg *Config) (*os.File, error) {
	file := databasePath(cfg)
	if file == filepath.Join(cfg.StateDir, databaseFile) {
		return nil, nil
	}
	f, err := durable.Lock(filepath.Dir(file), filepath.Base(file)+".lock")
	return f, taken(err, "another control service uses the database "+file, "stop it, or give this one its own --database-url")
}

// taken says who has a lock, and what to do where advice is not empty; any other
// error stays as it is.
func taken(err error, message, advice string) error {
	var locked *durable.LockedError
	if !errors.As(err, &locked) {
		return err
	}
	if locked.PID > 0 {
		message += fmt.Sprintf(" (process %d)", locked.PID)
	}
	return &StartError{Message: message, Advice: cmp.Or(advice, locked.Hint()), Err: err}
}

// loadGiven takes the certificate the configuration names, if it names one.
func (s *Service) loadGiven() error {
	if s.cfg.TLSCert == "" {
		return nil
	}
	var err error
	s.cert, err = selfcert.Load(selfcert.Files{Cert: s.cfg.TLSCert, Key: s.cfg.TLSKey}, s.log)
	if err != nil {
		return &StartError{
			Message: fmt.Sprintf("--tls-cert, --tls-key: %v", err), Wrong: true, Err: err,
			Advice: "give a PEM chain, the service's own certificate first, and its private key; or neither for a self-made certificate",
		}
	}
	return nil
}

// makeOwn loads the self-made certificate of the state directory, made when there
// is none or not for these names.
func (s *Service) makeOwn(names []string) error {
	files := selfcert.Files{Cert: filepath.Join(s.cfg.StateDir, certFile), Key: filepath.Join(s.cfg.StateDir, keyFile)}
	var err error
	s.cert, err = selfcert.Make(files, selfcert.Own{
		Subject: "nexd control service", Names: names, Lost: "then every registration key has to be made anew",
	}, s.log)
	return err
}

// pin is the pin of the self-made key; a given certificate is checked the usual way.
func (s *Service) pin() controlapi.Pin {
	spki := s.cert.SPKI()
	if spki == nil {
		return ""
	}
	return controlapi.PinOf(spki)
}
