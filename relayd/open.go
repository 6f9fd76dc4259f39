package relayd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/internal/durable"
	"nexd/internal/logkey"
	"nexd/internal/selfcert"
	"nexd/internal/sockerr"
)

// openGiven loads the certificate the configuration names, if it names one.
func (r *Relay) openGiven() error {
	if r.cfg.TLSCert == "" {
		return nil
	}
	var err error
	r.cert, err = selfcert.Load(selfcert.Files{Cert: r.cfg.TLSCert, Key: r.cfg.TLSKey}, r.log)
	if err != nil {
		return &UsageError{
			Message: fmt.Sprintf("--tls-cert, --tls-key: %v", err),
			Hint:    "give a PEM chain, the relay's own certificate first, and its private key; or neither for a self-made certificate",
		}
	}
	return nil
}

// openBook locks the directory, reads what is known, and finds the service.
func (r *Relay) openBook() error {
	if err := r.firstStart(); err != nil {
		return err
	}
	var err error
	if r.lock, err = durable.Lock(r.cfg.StateDir, lockName); err != nil {
		return err
	}
	if r.book, err = openBook(r.cfg.StateDir); err != nil {
		return err
	}
	rec := r.book.read()
	if r.cfg.RegKey != "" {
		if r.regKey, err = controlapi.ParseRegKey(r.cfg.RegKey); err != nil {
			return &UsageError{Message: "--reg-key: " + err.Error()}
		}
	}
	if foreignKey(r.regKey, rec) {
		r.log.Warn("this relay has registered with another service than the registration key names: the key is ignored (another --state-dir makes another relay)",
			logkey.URL, rec.serviceURL)
		r.regKey = controlapi.RegKey{}
	}
	url, pin := chooseService(r.cfg.ServiceURL, r.regKey, rec)
	switch {
	case rec.credential == "" && r.regKey.Secret == "":
		return errNotRegistered
	case url == "":
		return &UsageError{Message: "no control service is known", Hint: "give a whole --reg-key: it holds the service's URL; or --service-url"}
	}
	r.pin = pin
	r.client, err = controlclient.New(controlclient.Config{
		ServiceURL: url, Pin: pin, CAFile: r.cfg.CAFile, Insecure: r.cfg.InsecureSkipTLSVerify, Log: r.log,
	})
	if err != nil {
		return &UsageError{Message: err.Error()}
	}
	return nil
}

// foreignKey reports whether a key names another service than the one the relay
// has a credential of, which must go nowhere else. The same pin at another URL
// is the same service.
func foreignKey(k controlapi.RegKey, rec record) bool {
	return rec.credential != "" && k.ServiceURL != "" && k.ServiceURL != rec.serviceURL && (k.Pin == "" || k.Pin != rec.pin)
}

// chooseService decides which service the relay turns to: the one named by a
// flag, that of the registration key, the one registered with before.
func chooseService(flag string, k controlapi.RegKey, rec record) (url string, pin controlapi.Pin) {
	url, pin = k.ServiceURL, k.Pin
	if url == "" {
		url = rec.serviceURL
		if pin == "" { // no key, or a bare secret
			pin = rec.pin
		}
	}
	if flag != "" {
		url = flag
	}
	return url, pin
}

// keepAlive finds clients that vanished.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}

// listen opens every socket. The UDP port is only kept: the relay's own sockets
// take it over.
func (r *Relay) listen(ctx context.Context) error {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	hold, err := lc.ListenPacket(ctx, "udp", r.cfg.RelayListen)
	if err != nil {
		return sockerr.Listen("--relay-listen", r.cfg.RelayListen, err)
	}
	r.hold, r.udp = hold, addrPort(hold.LocalAddr())
	if r.cfg.Listen != Off {
		if r.web, err = lc.Listen(ctx, "tcp", r.cfg.Listen); err != nil {
			return sockerr.Listen("--listen", r.cfg.Listen, err)
		}
	}
	if err := r.listenOps(); err != nil {
		return sockerr.Listen("--ops-listen", r.cfg.OpsListen, err)
	}
	return nil
}

// letGo gives the UDP port to whoever takes it next.
func (r *Relay) letGo() {
	r.holdMu.Lock()
	defer r.holdMu.Unlock()
	if r.hold != nil {
		if err := r.hold.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			r.log.Debug("let the UDP port go", logkey.Err, err)
		}
		r.hold = nil
	}
}

// openOwn makes the certificate where none is given.
func (r *Relay) openOwn() error {
	if r.web == nil {
		return nil
	}
	hosts := r.cfg.publicHosts()
	if r.cert != nil {
		r.cert.ServeAs(webHost(hosts, r.cert.Leaf(), nil))
		return nil
	}
	files := selfcert.Files{Cert: filepath.Join(r.cfg.StateDir, certName), Key: filepath.Join(r.cfg.StateDir, tlsKeyName)}
	var err error
	r.cert, err = selfcert.Make(files, selfcert.Own{
		Subject: "nexd relay", Names: hosts, Lost: "the relay then tells devices the new one's pin",
	}, r.log)
	return err
}
