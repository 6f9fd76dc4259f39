package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/internal/logkey"
	"nexd/key"
	"nexd/state"
)

// firstStart refuses a start that cannot join before anything is made on disk.
func firstStart(cfg Config) error {
	if cfg.RegKey != "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(cfg.StateDir, state.FileName)); errors.Is(err, fs.ErrNotExist) {
		return ErrNotJoined
	}
	return nil
}

// ErrNotJoined is a start without a registration key of a device that has not joined.
var ErrNotJoined error = &UsageError{
	Message: "this device has not joined the mesh yet",
	Hint:    "give --reg-key once (nexctl reg-key create prints one)",
}

// prepare fills what the state and the config say together.
func (n *Node) prepare() error {
	data := n.store.Data()
	var err error
	if n.book, err = newRulebook(n.cfg.Rules, data, n.log); err != nil {
		return ruleUsage(err)
	}
	if n.cfg.RegKey != "" {
		if n.regKey, err = controlapi.ParseRegKey(n.cfg.RegKey); err != nil {
			return &UsageError{Message: err.Error()}
		}
	}
	url, pin := n.chooseService(data)
	switch {
	case data.Credential == "" && n.cfg.RegKey == "":
		return ErrNotJoined
	case url == "":
		return &UsageError{Message: "no control service is known", Hint: "give a whole --reg-key: it holds the service's URL; or --service-url"}
	}
	n.client, err = controlclient.New(controlclient.Config{
		ServiceURL: url, Pin: pin, CAFile: n.cfg.CAFile, Insecure: n.cfg.InsecureSkipTLSVerify, Log: n.log,
	})
	if err != nil {
		return &UsageError{Message: err.Error()}
	}
	if data.PrivateKey.IsZero() {
		// Before the first join: without a place for its key there is no device.
		if err := n.store.Update(func(d *state.Data) { d.PrivateKey = key.NewPrivate() }); err != nil {
			return notKept("keep the key of this device", err)
		}
	}
	n.life.url, n.pin, n.credential = url, pin, data.Credential
	if data.Credential != "" {
		m := data.Map
		if m == nil {
			m = &controlapi.Map{} // the service will tell
		}
		n.roster.set(m)
		n.warnOfWishes(m.Self)
	}
	return nil
}

// chooseService decides which service the node turns to: the one named by a flag,
// that of the registration key, the one joined before. A key of another
// service does not move a device that has joined: its credential belongs to
// the service that gave it. The same pin at another URL is the same service.
func (n *Node) chooseService(data state.Data) (url string, pin controlapi.Pin) {
	k := n.regKey
	joined := data.Credential != ""
	if joined && k.ServiceURL != "" && k.ServiceURL != data.ServiceURL && (k.Pin == "" || k.Pin != data.Pin) {
		n.log.Warn("this device has joined another service than the registration key names: the key is ignored (another --state-dir makes another device)",
			logkey.URL, data.ServiceURL)
		n.regKey, n.cfg.RegKey = controlapi.RegKey{}, ""
		k = n.regKey
	}
	url, pin = n.cfg.ServiceURL, k.Pin
	if url == "" {
		url = k.ServiceURL
	}
	if url == "" {
		url = data.ServiceURL
	}
	if k.ServiceURL == "" && pin == "" { // no key, or a bare secret
		pin = data.Pin
	}
	return url, pin
}

// warnOfWishes says which flags a device that has joined does not follow.
func (n *Node) warnOfWishes(self controlapi.Device) {
	if want := n.cfg.Hostname; want != "" && self.Name != "" && want != self.Name {
		n.log.Warn("--hostname does not rename a device that has joined: nexctl device update does", logkey.Device, self.Name, "wanted", want)
	}
	if want := n.cfg.RequestIP; want.IsValid() && len(self.Addresses) > 0 && !slices.Contains(self.Addresses, want) {
		n.log.Warn("--request-ip does not move a device that has joined", logkey.Device, self.Name, "addresses", self.Addresses, "wanted", want)
	}
}
