package relay

import (
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A relay is killed under traffic: how long until that is seen. RELAY_KILLS
// says how often; the times are logged.
func TestPoolNoticesAKill(t *testing.T) {
	runs, _ := strconv.Atoi(os.Getenv("RELAY_KILLS"))
	for name, answers := range map[string]bool{"one way": false, "both ways": true} {
		t.Run(name, func(t *testing.T) {
			for range max(runs, 1) {
				killOnce(t, answers)
			}
		})
	}
}

// suspicious is how long a relay that is sent to has to be silent before it is
// suspect, but for what two clocks make of it.
const suspicious = quickSilence + quickSuspect*quickUDP - 50*time.Millisecond

// silences counts the times a sender of datagrams was silent for as long.
type silences struct {
	of netip.AddrPort

	mu   sync.Mutex // guards the fields below
	last time.Time
	past int
}

func (s *silences) heard(from netip.AddrPort) {
	if from != s.of {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.last) >= suspicious {
		s.past++
	}
	s.last = now
}

// count returns how many there were, and whether one lasts.
func (s *silences) count() (past int, lasts bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.past, time.Since(s.last) >= suspicious
}

func killOnce(t *testing.T, answers bool) {
	child, pid, _ := benchChild(t)
	home := &silences{of: child.udp}
	standby := newRelay(t, sharing(child.service))
	first := child.info("home")
	first.URL = child.url
	list := []Info{first, standby.info("standby")}
	n, peer := newPool(t, child.service, func(_ *Pool, n *testPool) { n.heard = home.heard }), newPool(t, child.service)
	for _, p := range []*testPool{n, peer} {
		p.far(standby, 40*time.Millisecond)
		p.SetRelays(list)
		p.waitHomes("home", "standby")
	}
	n.reaches(peer, 1, "before")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // traffic
		defer close(stopped)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			n.Send(1, peer.private.Public(), [][]byte{text("traffic")})
			if answers {
				peer.Send(1, n.private.Public(), [][]byte{text("traffic")})
			}
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	known := 0
	moment := time.After(time.Duration(700+time.Now().UnixNano()%500) * time.Millisecond)
	for settled := false; !settled; {
		select {
		case <-moment:
			settled = true
		case <-n.changes:
		}
		// A machine that does not let the relay run makes it silent, too.
		before, _ := home.count()
		s := n.of("home")
		switch past, lasts := home.count(); {
		case !s.Suspect:
			known = before
		case past == known && !lasts:
			t.Errorf("suspect while it answers: %+v", s)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n.waitStatus("home", "suspicion", func(s PoolStatus) bool { return s.Suspect })
	suspect := time.Since(began)
	n.waitStatus("home", "its loss", func(s PoolStatus) bool { return !s.Connected })
	lost := time.Since(began)
	n.waitHomes("standby", "home")
	t.Logf("suspect after %s, not connected after %s, the standby is home after %s", suspect.Round(time.Millisecond), lost.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if suspect > 2*time.Second || lost > 4*time.Second {
		t.Error("too late even for a slow machine")
	}
}

// UDP is blocked under traffic and unblocked again: TLS carries on, then UDP.
func TestPoolCarriesOnByTLS(t *testing.T) {
	all, list := relays(t, 1)
	n, peer := newPool(t, all[0].service), newPool(t, all[0].service)
	for _, p := range []*testPool{n, peer} {
		p.SetRelays(list)
		p.waitHomes("r1")
	}
	n.reaches(peer, 1, "by udp")
	n.mute.Store(true)
	began := time.Now()
	n.reaches(peer, 1, "by tls")
	t.Logf("by tls after %s", time.Since(began).Round(time.Millisecond))
	if p := peer.reaches(n, 1, "and back"); !p.tls {
		t.Errorf("%+v", p)
	}
	n.mute.Store(false)
	began = time.Now()
	n.connected("r1", UDP)
	t.Logf("by udp again after %s", time.Since(began).Round(time.Millisecond))
	if p := peer.reaches(n, 1, "and back by udp"); p.tls {
		t.Errorf("%+v", p)
	}
}
