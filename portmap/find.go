package portmap

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

// roundTime bounds one round of asking.
const roundTime = 15 * time.Second

// finder looks for a way to have a port mapped.
type finder struct {
	secret []byte         // nonces are made of it
	port   uint16         // of PCP and NAT-PMP
	ssdp   netip.AddrPort // of UPnP
}

// find asks the gateway in all protocols at once, and maps the port by the
// first of PCP, NAT-PMP and UPnP that works.
func (f *finder) find(ctx context.Context, l link, port uint16) (way, mapping, error) {
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	at := netip.AddrPortFrom(l.gateway, f.port)
	pcp := &pcpWay{link: l, at: at, nonce: f.nonce(l)}
	pmp := &pmpWay{link: l, at: at}
	pmpDone, upnpDone := make(chan error, 1), make(chan error, 1)
	var gateways []*url.URL
	if l.local.Is4() {
		others.Go(func() { pmpDone <- pmp.outside(ctx) })
		others.Go(func() {
			var err error
			gateways, err = search(ctx, l, f.ssdp)
			upnpDone <- err
		})
	}
	var why []error
	m, err := pcp.open(ctx, port, netip.AddrPort{})
	if err == nil {
		return pcp, m, nil
	}
	why = append(why, named("PCP", err))
	if l.local.Is4() {
		if err = <-pmpDone; err == nil {
			if m, err = pmp.open(ctx, port, netip.AddrPort{}); err == nil {
				return pmp, m, nil
			}
		}
		why = append(why, named("NAT-PMP", err))
		if err = <-upnpDone; err == nil {
			var upnp *upnpWay
			if upnp, err = findUPnP(ctx, l, gateways); err == nil {
				if m, err = upnp.open(ctx, port, netip.AddrPort{}); err == nil {
					return upnp, m, nil
				}
			}
		}
		why = append(why, named("UPnP", err))
	}
	return nil, mapping{}, noWay(l, why)
}

// nonce is the same for a gateway as long as the secret is, so that a mapping
// can be renewed and ended after a restart (RFC 6887 section 11.2).
func (f *finder) nonce(l link) (n nonce) {
	mac := hmac.New(sha256.New, f.secret)
	fmt.Fprintf(mac, "nexd pcp nonce|%s|%s", l.gateway, l.local)
	copy(n[:], mac.Sum(nil))
	return n
}

// protocolError is why a protocol did not work.
type protocolError struct {
	protocol string
	err      error
}

func named(protocol string, err error) error { return protocolError{protocol, err} }

func (e protocolError) Error() string { return e.protocol + ": " + e.err.Error() }
func (e protocolError) Unwrap() error { return e.err }

// noWay says in one line why nothing worked.
func noWay(l link, why []error) error {
	var silent, other []string
	for _, err := range why {
		var p protocolError
		if errors.As(err, &p); errors.Is(err, errSilent) || errors.Is(err, errOldGateway) {
			silent = append(silent, p.protocol)
		} else {
			other = append(other, err.Error())
		}
	}
	if len(silent) > 0 {
		who := "no gateway"
		if l.gateway.IsValid() {
			who = "the gateway " + l.gateway.String()
		}
		other = append(other, fmt.Sprintf("%s does not answer %s", who, strings.Join(silent, ", ")))
	}
	return errors.New(strings.Join(other, "; "))
}
