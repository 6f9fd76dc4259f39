package portmap

import (
	"context"
	"net/netip"
	"time"
)

const (
	// wantedLifetime is how long a mapping is asked for.
	wantedLifetime = 2 * time.Hour
	// minLifetime is the shortest that is of use.
	minLifetime = 40 * time.Second
	// maxLifetime bounds what a gateway may say.
	maxLifetime = 24 * time.Hour
)

// way is a protocol spoken with one gateway. It is used by one goroutine.
type way interface {
	// protocol is its name in [Status].
	protocol() string
	// open makes or renews the mapping of a port. wanted is the address outside
	// it had; the zero value: none. The error is a refusal when the gateway said no.
	open(ctx context.Context, port uint16, wanted netip.AddrPort) (mapping, error)
	// close ends the mapping.
	close(ctx context.Context, port uint16, external netip.AddrPort) error
	// heard is told what the gateway said to all hosts, and reports whether the
	// mapping is to be made again.
	heard(n news, now time.Time) bool
}

// mapping is what a gateway gave.
type mapping struct {
	external netip.AddrPort
	lifetime time.Duration
}

// checked is the mapping within our own bounds.
func (m mapping) checked() (mapping, error) {
	if m.external.Port() == 0 {
		return mapping{}, refused("it gives port 0")
	}
	if m.lifetime < minLifetime {
		return mapping{}, refused("it maps for %s only", m.lifetime)
	}
	m.lifetime = min(m.lifetime, maxLifetime)
	return m, nil
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// pcpWay is PCP.
type pcpWay struct {
	link  link
	at    netip.AddrPort
	nonce nonce
	epoch epoch
}

func (w *pcpWay) protocol() string { return PCP }

func (w *pcpWay) open(ctx context.Context, port uint16, wanted netip.AddrPort) (mapping, error) {
	if wanted.Port() == 0 { // the one inside may be free
		wanted = netip.AddrPortFrom(netip.Addr{}, port)
	}
	a, err := w.ask(ctx, pcpRequest{client: w.link.local, nonce: w.nonce, inside: port, wanted: wanted, lifetime: seconds(wantedLifetime)})
	if err != nil {
		return mapping{}, err
	}
	// Had the gateway forgotten the mapping, this has made it again.
	w.epoch.lost(a.epoch, time.Now(), pcpLost)
	return mapping{external: a.external, lifetime: time.Duration(a.lifetime) * time.Second}.checked()
}

func (w *pcpWay) close(ctx context.Context, port uint16, _ netip.AddrPort) error {
	_, err := w.ask(ctx, pcpRequest{client: w.link.local, nonce: w.nonce, inside: port})
	return err
}

func (w *pcpWay) ask(ctx context.Context, r pcpRequest) (a pcpAnswer, err error) {
	err = ask(ctx, w.link, w.at, r.appendTo(nil), func(b []byte) (err error) {
		a, err = parsePCP(b, r)
		return err
	})
	if err == nil && a.result != 0 {
		err = refused("%s", a.result)
	}
	return a, err
}

func (w *pcpWay) heard(n news, now time.Time) bool {
	return n.pcp && w.epoch.lost(n.epoch, now, pcpLost)
}

// pmpWay is NAT-PMP.
type pmpWay struct {
	link    link
	at      netip.AddrPort
	epoch   epoch
	address netip.Addr // outside
}

func (w *pmpWay) protocol() string { return PMP }

// outside asks for the address outside; it changes nothing at the gateway.
func (w *pmpWay) outside(ctx context.Context) error {
	var a pmpAnswer
	err := ask(ctx, w.link, w.at, []byte{0, pmpAddress}, func(b []byte) (err error) {
		a, err = parsePMPAddress(b)
		return err
	})
	switch {
	case err != nil:
		return err
	case a.result != 0:
		return refused("%s", a.result)
	}
	w.address = a.address
	w.epoch.lost(a.epoch, time.Now(), pmpLost) // the mapping is asked for in any case
	return nil
}

func (w *pmpWay) open(ctx context.Context, port uint16, wanted netip.AddrPort) (mapping, error) {
	if err := w.outside(ctx); err != nil {
		return mapping{}, err
	}
	suggested := wanted.Port()
	if suggested == 0 {
		suggested = port
	}
	a, err := w.ask(ctx, pmpRequest{inside: port, wanted: suggested, lifetime: seconds(wantedLifetime)})
	if err != nil {
		return mapping{}, err
	}
	return mapping{external: netip.AddrPortFrom(w.address, a.port), lifetime: time.Duration(a.lifetime) * time.Second}.checked()
}

func (w *pmpWay) close(ctx context.Context, port uint16, _ netip.AddrPort) error {
	_, err := w.ask(ctx, pmpRequest{inside: port})
	return err
}

func (w *pmpWay) ask(ctx context.Context, r pmpRequest) (a pmpAnswer, err error) {
	err = ask(ctx, w.link, w.at, r.appendTo(nil), func(b []byte) (err error) {
		a, err = parsePMPMap(b, r.inside)
		return err
	})
	if err == nil && a.result != 0 {
		err = refused("%s", a.result)
	}
	return a, err
}

func (w *pmpWay) heard(n news, now time.Time) bool {
	return !n.pcp && (w.epoch.lost(n.epoch, now, pmpLost) || n.address != w.address)
}
