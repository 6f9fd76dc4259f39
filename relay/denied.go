package relay

import (
	"crypto/ed25519"
	"sync"
	"time"

	"nexd/key"
)

// denials are the devices whose older credentials count no more.
type denials struct {
	mu    sync.RWMutex // guards until; taken last
	until map[deniedDevice]time.Time
}

type deniedDevice struct {
	network NetworkID
	device  key.Public
}

// add keeps the latest time of a device.
func (d *denials) add(network NetworkID, device key.Public, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	who := deniedDevice{network, device}
	if d.until == nil {
		d.until = map[deniedDevice]time.Time{}
	}
	if until.After(d.until[who]) {
		d.until[who] = until
	}
}

// cover reports whether a credential counts no more.
func (d *denials) cover(c Credential) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	until, ok := d.until[deniedDevice{c.Network, c.Device}]
	return ok && !c.Expires.After(until)
}

// tidy forgets what an expiry says by now.
func (d *denials) tidy(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for who, until := range d.until {
		if now.After(until.Add(ClockTolerance)) {
			delete(d.until, who)
		}
	}
}

// Deny makes those credentials of a device count no more that expire at until
// or before, such as those of one that was deleted, and ends its session if one
// of them admitted it. A later credential, given when it had joined again,
// counts. It is remembered until such credentials have expired; how many devices
// are denied is the caller's to bound.
func (s *Server) Deny(network NetworkID, device key.Public, until time.Time) {
	s.denied.add(network, device, until)
	s.endIf(func(c Credential, _ [4]byte) bool { return s.denied.cover(c) }, s.table.session(network, device))
}

// SetIssuers replaces the services whose credentials count, at most 8; with none
// nobody is admitted. Sessions of those that are in the list no more end.
func (s *Server) SetIssuers(list []ed25519.PublicKey) error {
	if err := checkIssuers(list); err != nil {
		return err
	}
	next := append(issuers(nil), list...)
	s.issuers.Store(&next)
	s.endIf(func(_ Credential, id [4]byte) bool { return !next.have(id) }, s.table.all()...)
	return nil
}

// endIf ends those sessions whose credential is such. What a session was
// admitted with may change until it is looked at.
func (s *Server) endIf(such func(c Credential, issuer [4]byte) bool, sessions ...*session) {
	for _, one := range sessions {
		if one == nil {
			continue
		}
		s.table.mu.Lock()
		c, err := ParseCredential(one.credential[:])
		out := (err != nil || such(c, [4]byte(one.credential[57:61]))) && s.table.removeLocked(one, s.now())
		s.table.mu.Unlock()
		if out {
			s.ended(one, ByeDenied)
		}
	}
}

// have reports whether one of the services has the id.
func (is issuers) have(id [4]byte) bool {
	for _, service := range is {
		if issuerID(service) == id {
			return true
		}
	}
	return false
}

// stillBelieved is asked with table.mu held, so that what Deny and SetIssuers
// say either refuses an admission or finds its session.
func (s *Server) stillBelieved(a auth, c Credential) bool {
	return s.issuers.Load().have([4]byte(a.Credential[57:61])) && !s.denied.cover(c)
}
