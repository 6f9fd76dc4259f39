package relay

import (
	"os"
	"strconv"
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

func killOnce(t *testing.T, answers bool) {
	child, pid, _ := benchChild(t)
	standby := newRelay(t, sharing(child.service))
	home := child.info("home")
	home.URL = child.url
	list := []Info{home, standby.info("standby")}
	n, peer := newPool(t, child.service), newPool(t, child.service)
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
	moment := time.After(time.Duration(700+time.Now().UnixNano()%500) * time.Millisecond)
	for settled := false; !settled; {
		select {
		case <-moment:
			settled = true
		case <-n.changes:
		}
		if s := n.of("home"); s.Suspect {
			t.Errorf("suspect while it lives: %+v", s)
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
