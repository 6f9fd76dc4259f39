package node

import (
	"net/netip"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

func TestRosterOfNobody(t *testing.T) {
	t.Parallel()
	var r roster
	if _, ok := r.peer("db"); ok || r.current() != nil || r.Addresses() != nil || r.Resolve("db") != nil {
		t.Error("an empty roster knows somebody")
	}
	if _, _, ok := r.Who(netip.MustParseAddr("100.64.0.1")); ok {
		t.Error("an empty roster knows an address")
	}
}

func TestRoster(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	self := controlapi.Device{ID: "d1", Name: "me", PublicKey: key.NewPrivate().Public(), Addresses: []netip.Addr{addr("100.64.0.1"), addr("fd00::1")}}
	db := controlapi.Device{ID: "d2", Name: "db", PublicKey: key.NewPrivate().Public(), Addresses: []netip.Addr{addr("100.64.0.2"), addr("fd00::2")}, Tags: []string{"prod"}}
	bare := controlapi.Device{ID: "d3", Name: "bare", PublicKey: key.NewPrivate().Public()}
	var r roster
	r.set(&controlapi.Map{Self: self, Peers: []controlapi.Device{db, bare}, Network: controlapi.Network{Domain: "nexd.internal"}})

	for _, name := range []string{"db", "DB", "db.", "db.nexd.internal", "Db.Nexd.Internal."} {
		if got := r.Resolve(name); len(got) != 2 || got[0] != db.Addresses[0] {
			t.Errorf("Resolve(%q) = %v", name, got)
		}
	}
	for _, name := range []string{"", ".", "db.example", "nexd.internal", "d2", "100.64.0.2", "bare"} {
		if got := r.Resolve(name); len(got) != 0 {
			t.Errorf("Resolve(%q) = %v", name, got)
		}
	}
	if got := r.Addresses(); len(got) != 2 || got[0] != self.Addresses[0] {
		t.Errorf("Addresses = %v", got)
	}
	for _, a := range []string{"100.64.0.2", "::ffff:100.64.0.2", "fd00::2"} {
		if name, tags, ok := r.Who(addr(a)); !ok || name != "db" || len(tags) != 1 {
			t.Errorf("Who(%s) = %q, %v, %v", a, name, tags, ok)
		}
	}
	if name, _, ok := r.Who(addr("100.64.0.9")); ok {
		t.Errorf("Who of a stranger = %q", name)
	}
	for s, want := range map[string]string{
		"db": "db", "db.nexd.internal": "db", "d2": "db", "100.64.0.2": "db", "fd00::2": "db", db.PublicKey.String(): "db",
		"bare": "bare", "d3": "bare", "me": "me", "100.64.0.1": "me",
		"": "", "nobody": "", "100.64.0.9": "", key.NewPrivate().Public().String(): "",
	} {
		if dev, ok := r.peer(s); ok != (want != "") || dev.Name != want {
			t.Errorf("peer(%q) = %q, %v; want %q", s, dev.Name, ok, want)
		}
	}
	r.set(nil)
	if _, ok := r.peer("db"); ok {
		t.Error("an emptied roster knows somebody")
	}
}

// A device that leaves while it is looked up is found or not; nothing breaks.
func TestRosterChangesDuringLookups(t *testing.T) {
	t.Parallel()
	with := &controlapi.Map{Peers: []controlapi.Device{{Name: "db", Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.2")}}}}
	var r roster
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for range 2000 {
			r.set(with)
			r.set(&controlapi.Map{})
		}
	}()
	for {
		select {
		case <-stop:
			return
		default:
			r.peer("db")
		}
	}
}

func TestNotifier(t *testing.T) {
	t.Parallel()
	var n notifier
	n.notify() // nobody waits
	a, b := n.wait(), n.wait()
	select {
	case <-a:
		t.Fatal("woken by what was before")
	default:
	}
	n.notify()
	n.notify()
	for _, c := range []<-chan struct{}{a, b} {
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatal("a waiter sleeps on")
		}
	}
	select {
	case <-n.wait():
		t.Error("a new waiter is woken by what was before")
	default:
	}
}
