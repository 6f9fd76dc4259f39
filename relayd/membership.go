package relayd

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/internal/logkey"
)

const (
	// maxPages bounds how many heartbeats follow each other at once.
	maxPages = 100
	// failedFaster divides the time to the next heartbeat after one that failed.
	failedFaster = 6
	// farewellTime bounds the last heartbeat, which says that the relay drains.
	farewellTime = 3 * time.Second
	// reregisterDelay lies between tries of a relay that the service forgot.
	reregisterDelay = 30 * time.Second
)

// address is what devices are told now: a given certificate may have changed.
func (r *Relay) address() controlapi.RelayAddress {
	if r.web == nil {
		return address(r.cfg.publicHosts(), r.udp.Port(), 0, nil, nil)
	}
	return address(r.cfg.publicHosts(), r.udp.Port(), r.WebAddr().Port(), r.cert.Leaf(), r.cert.SPKI())
}

// register makes this a relay of the service. It goes on until the service
// answers or ctx ends (then it returns nil); a refusal is a [*UsageError].
func (r *Relay) register(ctx context.Context) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	resp, err := r.client.JoinRelay(ctx, controlclient.RelayJoinParams{
		Private: r.book.read().private, RegKey: r.regKey.Secret, Name: name, Address: r.address(), Version: r.cfg.Version,
		OnWait: func(err error, _ time.Duration) { r.health.heard(err) },
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return &UsageError{Message: err.Error(), Hint: controlclient.Hint(err)}
	}
	issuers, err := readIssuers(resp.Issuers)
	if err != nil {
		return &UsageError{Message: "the service's answer cannot be used: " + err.Error()}
	}
	err = r.book.update(func(rec *record) {
		rec.serviceURL, rec.pin = r.client.URL(), r.pin
		rec.id, rec.name, rec.credential, rec.issuers = resp.ID, resp.Name, resp.Credential, issuers
		rec.denied, rec.next = nil, 0
	})
	if err != nil {
		// It is registered all the same: this run goes on with it.
		r.log.Error("keep the relay's credential: the next start needs the registration key again", logkey.Err, err)
	}
	r.health.heard(nil)
	r.health.set(func(h *health) { h.registered, h.deleted = true, false })
	r.notify()
	a := r.address()
	r.log.Info("registered", logRelay, resp.Name, "udp", a.UDP, logkey.URL, a.URL)
	return nil
}

// name is the one that was given, or the machine's.
func (r *Relay) name() (string, error) {
	if r.cfg.Name != "" {
		return r.cfg.Name, nil
	}
	host, err := os.Hostname()
	if name := controlapi.CleanName(host); err == nil && name != "" {
		return name, nil
	}
	return "", &UsageError{Message: "the host's name does not make a name for the relay", Hint: "give one with --name"}
}

// report sends a heartbeat every half minute, and sooner after one that failed,
// until ctx ends, and then one that says that the relay drains. A relay that the service does not know any more
// serves nobody; it registers again, once, if a key was given to this start and
// the service never knew it since.
func (r *Relay) report(ctx context.Context) {
	mayRegister := r.regKey.Secret != ""
	for ctx.Err() == nil {
		err := r.heartbeat(ctx)
		wait := r.cfg.heartbeat
		switch {
		case err == nil:
			mayRegister = false
		case errors.Is(err, controlclient.ErrRelayDeleted):
			r.expelled(err)
			if !mayRegister || !r.registerAgain(ctx) {
				<-ctx.Done()
				return
			}
			mayRegister = false
			continue
		default:
			wait /= failedFaster
		}
		select {
		case <-ctx.Done():
		case <-time.After(around(wait)):
		}
	}
	r.sayDraining(context.WithoutCancel(ctx))
}

// around returns d ± a fifth, so that relays do not report together.
func around(d time.Duration) time.Duration { return d - d/5 + rand.N(2*d/5+1) }

// heartbeat reports, and takes over what the service says, page by page.
func (r *Relay) heartbeat(ctx context.Context) error {
	for range maxPages {
		rec := r.book.read()
		answer, err := r.client.RelayHeartbeat(ctx, rec.credential, controlapi.RelayHeartbeat{
			RelayAddress: r.address(), Since: rec.next, Version: r.cfg.Version,
		})
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = r.learn(answer)
		}
		r.tell(err)
		if err != nil || !answer.More {
			return err
		}
	}
	return nil
}

// tell logs a change of fortune with the service.
func (r *Relay) tell(err error) {
	if !r.health.heard(err) {
		return
	}
	if err != nil {
		r.log.Warn("the service does not answer, the relay goes on with what it knows", logkey.Err, err)
		return
	}
	r.log.Info("the service answers")
}

// learn keeps what a heartbeat's answer says. A record that cannot be written
// counts all the same, until the next start.
func (r *Relay) learn(answer controlapi.RelayHeartbeatAnswer) error {
	issuers, err := readIssuers(answer.Issuers)
	if err != nil {
		return err
	}
	denied, err := mergeDenied(r.book.read().denied, answer.Denied, time.Now())
	if err != nil {
		return err
	}
	err = r.book.update(func(rec *record) {
		rec.serviceURL, rec.pin = r.client.URL(), r.pin
		rec.issuers, rec.denied, rec.next = issuers, denied, answer.Next
	})
	if err != nil {
		r.log.Error("keep what the service told: a start without it would know less", logkey.Err, err)
	}
	r.notify()
	return nil
}

// notify makes the station look at the record.
func (r *Relay) notify() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// expelled forgets what a deleted relay knew: it admits nobody, now and after a
// restart without the service.
func (r *Relay) expelled(err error) {
	r.log.Error("the service no longer knows this relay: start it with a registration key to register again", logkey.Err, err)
	r.health.set(func(h *health) { h.registered, h.deleted, h.serving = false, true, false })
	err = r.book.update(func(rec *record) {
		rec.credential, rec.issuers, rec.denied, rec.next = "", nil, nil, 0
	})
	if err != nil {
		r.log.Warn("forget the void credential", logkey.Err, err)
	}
	r.notify()
}

// registerAgain registers, however often that is refused; false: ctx ended first.
func (r *Relay) registerAgain(ctx context.Context) bool {
	for {
		err := r.register(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		r.health.heard(err)
		r.log.Error("register again", logkey.Err, err, logkey.Wait, reregisterDelay)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(reregisterDelay):
		}
	}
}

// sayDraining has the service tell devices of the other relays alone.
func (r *Relay) sayDraining(ctx context.Context) {
	r.health.set(func(h *health) { h.draining = true })
	rec := r.book.read()
	if rec.credential == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	_, err := r.client.RelayHeartbeat(ctx, rec.credential, controlapi.RelayHeartbeat{
		RelayAddress: r.address(), Since: rec.next, Version: r.cfg.Version, Draining: true,
	})
	if err != nil {
		r.log.Debug("tell the service that the relay drains", logkey.Err, err)
	}
}

// logRelay is a relay's name in log lines.
const logRelay = "relay"
