//go:build linux

package paths

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/lab"
)

// link is two members at sites of their own, and a connection between them.
type link struct {
	*World
	t      *testing.T
	sa, sb *lab.Site
	a, b   *Member
	tcp    *Beat
	trace  *Trace
}

// egressPort is the local port at a that leads to b.
const egressPort = 7001

// newLink joins members at two sites, with a rule from a to b.
func newLink(w *World, sa, sb *lab.Site) (a, b *Member) {
	Serve(w.t, sb.Node(1).Host)
	return w.Join(sa.Node(1), To(egressPort, sb.Node(1).Name)...), w.Join(sb.Node(1))
}

// connect opens the connection and waits until it flows over a path of a kind.
func connect(t *testing.T, w *World, a, b *Member, kind string) *link {
	t.Helper()
	l := &link{World: w, t: t, sa: a.At.Site(), sb: b.At.Site(), a: a, b: b}
	onRelay(t, a, b)
	begun := time.Now()
	var err error
	if l.tcp, err = NewBeat(a, "tcp", egressPort); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.tcp.Close)
	if _, err := l.tcp.Settle(begun, 500*time.Millisecond, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	l.trace = NewTrace(a, b)
	t.Cleanup(func() {
		l.trace.Close()
		t.Logf("the paths:\n%s", l.trace)
	})
	l.reaches(kind)
	return l
}

// reaches wants both sides on paths of a kind, within a minute.
func (l *link) reaches(kind string) {
	l.t.Helper()
	if err := Reaches(l.a, l.b, kind, time.Minute); err != nil {
		l.t.Error(err)
	}
}

// survives does something to the network and wants the connection to flow
// again.
func (l *link) survives(what string, do func()) {
	l.t.Helper()
	var begun time.Time
	l.Change(func() {
		begun = time.Now()
		do()
	})
	silence, err := l.tcp.Settle(begun, 1500*time.Millisecond, time.Minute)
	if err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
	l.t.Logf("%s: the longest silence is %s", what, silence.Round(time.Millisecond))
}

// lasts does something that leaves no way, and ends it after a time.
func (l *link) lasts(what string, d time.Duration, do, undo func()) {
	l.t.Helper()
	l.survives(what, func() {
		do()
		time.Sleep(d) // as long as the outage is to be
		undo()
	})
}

// heals does something that only a relay survives, and then undoes it.
func (l *link) heals(what string, do, undo func()) {
	l.t.Helper()
	l.survives(what, do)
	l.reaches(localapi.PathRelay)
	l.survives("the end of: "+what, undo)
	l.reaches(localapi.PathDirect)
}

// One long TCP connection lives through whatever happens to the networks it
// crosses, in one WireGuard session.
func TestLives(t *testing.T) {
	t.Parallel()
	w := New(t)
	stories := []struct {
		name  string
		kinds [2]lab.Kind
		tell  func(l *link)
	}{
		{"rebind", [2]lab.Kind{lab.PortRestricted, lab.PortRestricted}, func(l *link) {
			l.survives("the one NAT rebinds", l.sa.Rebind)
			l.survives("the other one, too", l.sb.Rebind)
			l.reaches(localapi.PathDirect)
		}},
		{"flush", [2]lab.Kind{lab.PortRestricted, lab.FullCone}, func(l *link) {
			l.survives("the one NAT forgets", l.sa.Flush)
			l.survives("the other one, too", l.sb.Flush)
			l.reaches(localapi.PathDirect)
		}},
		{"block", [2]lab.Kind{lab.PortRestricted, lab.AddrRestricted}, func(l *link) {
			l.heals("nothing passes between them", func() { l.Block(l.sa, l.sb) }, func() { l.Unblock(l.sa, l.sb) })
		}},
		{"one way", [2]lab.Kind{lab.FullCone, lab.PortRestricted}, func(l *link) {
			l.heals("nothing passes one way", func() { l.BlockOneWay(l.sa, l.sb) }, func() { l.Unblock(l.sa, l.sb) })
			l.heals("nothing passes the other way", func() { l.BlockOneWay(l.sb, l.sa) }, func() { l.Unblock(l.sa, l.sb) })
		}},
		{"udp", [2]lab.Kind{lab.PortRestricted, lab.PortRestricted}, func(l *link) {
			l.heals("UDP is blocked", l.sb.UDPBlock, l.sb.UDPUnblock)
		}},
		{"roam", [2]lab.Kind{lab.PortRestricted, lab.PortRestricted}, func(l *link) {
			l.survives("the one roams", l.sb.Roam)
			l.reaches(localapi.PathDirect)
			l.survives("the other one roams", l.sa.Roam)
			l.reaches(localapi.PathDirect)
		}},
		{"link", [2]lab.Kind{lab.PortRestricted, lab.CGNAT}, func(l *link) {
			l.lasts("three seconds without a link", 3*time.Second, l.sa.LinkDown, l.sa.LinkUp)
			l.reaches(localapi.PathDirect)
		}},
	}
	var members []*Member
	for _, s := range stories {
		a, b := newLink(w, w.Site(s.kinds[0], lab.Options{}), w.Site(s.kinds[1], lab.Options{}))
		members = append(members, a, b)
	}
	ready(members...)
	for i, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			l := connect(t, w, members[2*i], members[2*i+1], localapi.PathDirect)
			s.tell(l)
			l.oneSession()
		})
	}
}

// oneSession wants no handshake but those that time asks for.
func (l *link) oneSession() {
	l.t.Helper()
	if n := l.trace.Caused(); n > 0 {
		l.t.Errorf("%d handshakes were caused", n)
	}
}

// What is direct needs neither the service nor a relay.
func TestServiceDown(t *testing.T) {
	t.Parallel()
	w := New(t)
	// Without anybody to carry an offer a rebind is survived only if the peer's NAT
	// lets a stranger in.
	a, b := newLink(w, w.Site(lab.PortRestricted, lab.Options{}), w.Site(lab.FullCone, lab.Options{}))
	ready(a, b)
	l := connect(t, w, a, b, localapi.PathDirect)
	l.survives("the service is killed", w.Service.Kill)
	if err := Until(30*time.Second, func() error {
		st, err := a.Look()
		if err == nil && (!st.Ready || st.Service.Connected) {
			err = fmt.Errorf("ready %t, connected %t", st.Ready, st.Service.Connected)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	l.survives("the one NAT rebinds meanwhile", l.sa.Rebind)
	l.reaches(localapi.PathDirect)
	l.survives("the service is back", w.Service.Start)
	if err := Until(time.Minute, func() error {
		x, err := a.Look()
		y, err2 := b.Look()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if !x.Service.Connected || !y.Service.Connected {
			return errors.New("not connected to the service")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	l.oneSession()
}
