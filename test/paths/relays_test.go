//go:build linux

package paths

import (
	"errors"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/cluster"
	"nexd/test/lab"
)

// A relayed connection lives through the death of the relay it uses, of all
// relays for a while, and of the service.
func TestRelaysDie(t *testing.T) {
	t.Parallel()
	w := New(t)
	// The service's own relay is far: homes are the near ones.
	var relays []*cluster.Relay
	for _, name := range []string{"near", "next"} {
		relays = append(relays, w.Relay(w.Site(lab.Public, lab.Options{Name: name})))
	}
	w.Home.Latency(15*time.Millisecond, 0, 0)
	a, b := newLink(w, w.Site(lab.Symmetric, lab.Options{}), w.Site(lab.PortRestricted, lab.Options{}))
	ready(a, b)
	l := connect(t, w, a, b, localapi.PathRelay)

	first, err := RelayBetween(b, a, relays)
	if err != nil {
		t.Fatal(err)
	}
	l.survives("the relay in use is killed", first.Kill)
	l.reaches(localapi.PathRelay)
	l.survives("it is back", first.Start)
	l.survives("the service is killed", w.Service.Kill)
	l.survives("a relay is killed meanwhile", relays[1].Kill)
	l.survives("it is back", relays[1].Start)
	l.survives("the service is back", w.Service.Start)
	l.lasts("no relay at all for two seconds", 2*time.Second, func() {
		w.Service.Kill()
		relays[0].Kill()
		relays[1].Kill()
	}, func() {
		relays[0].Start()
		relays[1].Start()
		w.Service.Start()
	})
	l.reaches(localapi.PathRelay)
	l.oneSession()
}

// With UDP blocked there is the relay over TLS on the service's port; it is
// killed and comes back.
func TestServiceRelayRestarts(t *testing.T) {
	t.Parallel()
	w := New(t)
	a, b := newLink(w, w.Site(lab.UDPBlocked, lab.Options{}), w.Site(lab.Symmetric, lab.Options{}))
	ready(a, b)
	l := connect(t, w, a, b, localapi.PathRelay)
	l.lasts("the service is restarted", time.Second, w.Service.Kill, w.Service.Start)
	l.reaches(localapi.PathRelay)
	l.survives("the one NAT rebinds", l.sb.Rebind)
	l.survives("the other router forgets", l.sa.Flush)
	l.oneSession()
}

// A direct path survives the loss of service and relays, and what needs an
// offer goes on as soon as one of the two is back.
func TestRelayWithoutService(t *testing.T) {
	t.Parallel()
	w := New(t)
	relay := w.Relay(w.Site(lab.Public, lab.Options{Name: "near"}))
	w.Home.Latency(15*time.Millisecond, 0, 0)
	a, b := newLink(w, w.Site(lab.PortRestricted, lab.Options{}), w.Site(lab.PortRestricted, lab.Options{}))
	ready(a, b)
	l := connect(t, w, a, b, localapi.PathDirect)
	l.survives("the service is killed", w.Service.Kill)
	l.survives("the one NAT rebinds, and the relay carries the offers", l.sa.Rebind)
	l.reaches(localapi.PathDirect)
	l.survives("the relay is killed, too", relay.Kill)
	if err := Until(20*time.Second, func() error {
		st, err := a.Look()
		if err == nil {
			for _, r := range st.Relays {
				if r.Connected {
					err = errors.New("still connected to " + r.URL)
				}
			}
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	l.survives("the relay is back", relay.Start)
	l.survives("the other NAT rebinds", l.sb.Rebind)
	l.reaches(localapi.PathDirect)
	l.oneSession()
}
