package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"nexd/discovery"
	"nexd/localapi"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// relayedPair is two members that talk through a relay, and tried all else.
func relayedPair(own, peer string) (checkup, peerFacts) {
	c := checkup{
		Now: noon, Ready: true,
		Service: serviceFacts{URL: "https://h:8443", Connected: true, Since: noon.Add(-time.Hour)},
		Own:     ownFacts{sideFacts: sideFacts{NAT: own}, Port: 41641, UDP: own != discovery.NATBlocked},
		Relays:  []relayFacts{{Name: "service", Home: true, Connected: true, Transport: localapi.TransportUDP, RTT: 20 * time.Millisecond}},
	}
	p := peerFacts{
		Name: "db", sideFacts: sideFacts{NAT: peer}, Wanted: true, Offered: true, Relays: 2, Tried: 4,
		Path:      localapi.PathStatus{Kind: localapi.PathRelay, Relay: "service", Transport: localapi.TransportUDP},
		Searching: noon.Add(-time.Minute), Next: noon.Add(30 * time.Second),
	}
	return c, p
}

func TestEveryPairOfNATs(t *testing.T) {
	const (
		open, easy, hard = discovery.NATOpen, discovery.NATEasy, discovery.NATHard
		blocked, unknown = discovery.NATBlocked, discovery.NATUnknown

		bothHard  = "both NATs choose a new port for each destination"
		oursMoves = "the NAT here chooses a new port for each destination"
		dbMoves   = "the NAT of db chooses a new port for each destination"
		stateless = "no NAT stands against a direct path"
		here      = "UDP is blocked here:"
		there     = "UDP is blocked at db:"
		everyone  = "UDP is blocked here and at db:"

		letIn     = "let UDP port 41641 in through the firewall here"
		dbLetIn   = "let UDP in through the firewall of db"
		letOut    = "let UDP out, and the answers in, through the firewalls"
		unblock   = "let UDP out of this host's network"
		dbUnblock = "let UDP out of db's network"
		mapping   = "start nexd here with --port-mapping"
	)
	type verdict struct{ why, way string }
	want := map[[2]string]verdict{
		{open, open}:    {stateless, letOut},
		{open, easy}:    {stateless, letIn},
		{easy, open}:    {stateless, dbLetIn},
		{easy, easy}:    {stateless, letOut},
		{open, hard}:    {"there is no NAT here", letIn},
		{hard, open}:    {"db has no NAT", dbLetIn},
		{easy, hard}:    {dbMoves, mapping},
		{hard, easy}:    {oursMoves, mapping},
		{hard, hard}:    {bothHard, mapping},
		{unknown, open}: {"the kind of NAT here is not known", dbLetIn},
		{unknown, easy}: {"the kind of NAT here is not known", mapping},
		{unknown, hard}: {"the kind of NAT here is not known", mapping},
		{open, unknown}: {"the kind of NAT of db is not known", letIn},
		{easy, unknown}: {"the kind of NAT of db is not known", mapping},
		{hard, unknown}: {"the kind of NAT of db is not known", mapping},

		{unknown, unknown}: {"the kinds of NAT here and of db are not known", mapping},
		{blocked, blocked}: {everyone, unblock},
		{blocked, open}:    {here, unblock},
		{blocked, easy}:    {here, unblock},
		{blocked, hard}:    {here, unblock},
		{blocked, unknown}: {here, unblock},
		{open, blocked}:    {there, dbUnblock},
		{easy, blocked}:    {there, dbUnblock},
		{hard, blocked}:    {there, dbUnblock},
		{unknown, blocked}: {there, dbUnblock},
	}
	kinds := []string{open, easy, hard, blocked, unknown}
	if len(want) != len(kinds)*len(kinds) {
		t.Fatalf("%d pairs", len(want))
	}
	for pair, w := range want {
		t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
			c, p := relayedPair(pair[0], pair[1])
			v, f := judgePeer(c, p)
			if v.PathKind != localapi.PathRelay || f.Level != localapi.LevelNote || f.Text != v.Why {
				t.Errorf("path %s, finding %+v", v.PathKind, f)
			}
			why, ok := strings.CutPrefix(v.Why, "packets go through relay service over UDP: ")
			if !ok || !strings.Contains(why, w.why) {
				t.Errorf("why: %s", v.Why)
			}
			if len(v.Direct) == 0 || !strings.HasPrefix(v.Direct[0], w.way) || f.Advice != v.Direct[0] {
				t.Errorf("ways: %q, advice %q", v.Direct, f.Advice)
			}
			checkWords(t, pair, v)
		})
	}
}

// checkWords: nothing is said of a NAT that was not measured, and no way is
// named that cannot help.
func checkWords(t *testing.T, pair [2]string, v localapi.PeerFinding) {
	t.Helper()
	ways := strings.Join(v.Direct, "\n")
	claims := map[string]string{
		"the NAT here chooses": pair[0], "the NAT here, which keeps": pair[0], "there is no NAT here": pair[0],
		"the NAT of db chooses": pair[1], "that of db, which keeps": pair[1], "db has no NAT": pair[1],
	}
	for text, kind := range claims {
		wrong := strings.Contains(text, "chooses") && kind != discovery.NATHard ||
			strings.Contains(text, "keeps") && kind != discovery.NATEasy || strings.Contains(text, "no NAT") && kind != discovery.NATOpen
		if wrong && strings.Contains(v.Why, text) {
			t.Errorf("%s NAT, and it says %q", kind, text)
		}
	}
	sorted := slices.Sorted(slices.Values(pair[:]))
	guess := slices.Equal(sorted, []string{discovery.NATEasy, discovery.NATHard})
	if strings.Contains(ways, "--punch-hard-nat") != guess {
		t.Errorf("guessing ports: %s", ways)
	}
	if slices.Contains(pair[:], discovery.NATBlocked) && strings.Contains(ways, "--port-mapping") {
		t.Errorf("a mapping where UDP is blocked: %s", ways)
	}
	if slices.Contains(pair[:], discovery.NATOpen) && strings.Contains(ways, "--port-mapping") {
		t.Errorf("a mapping beside an end that needs none: %s", ways)
	}
	for _, text := range append(v.Direct, v.Why) {
		if len(text) > localapi.MaxText {
			t.Errorf("%d bytes: %s", len(text), text)
		}
	}
}

func TestHardPairSaysAllOfIt(t *testing.T) {
	c, p := relayedPair(discovery.NATHard, discovery.NATHard)
	v, _ := judgePeer(c, p)
	want := "packets go through relay service over UDP: both NATs choose a new port for each destination (address-dependent, or address- and port-dependent mapping): " +
		"no UDP path can be predicted (4 addresses were checked, none answered); the next attempt is in 30s"
	if v.Why != want {
		t.Errorf("why:\n%s\nwant\n%s", v.Why, want)
	}
	ways := []string{
		"start nexd here with --port-mapping, where the router knows UPnP, NAT-PMP or PCP",
		"start nexd at db with --port-mapping, where its router knows UPnP, NAT-PMP or PCP",
		"forward a UDP port of either router by hand, and start nexd behind it with --endpoint HOST:PORT",
		"have IPv6 here and at db",
	}
	if !slices.Equal(v.Direct, ways) {
		t.Errorf("ways: %q", v.Direct)
	}
}

func TestWaysKnowWhatIsThereAlready(t *testing.T) {
	for _, tt := range []struct {
		name      string
		have      func(*checkup, *peerFacts)
		want, not string
	}{
		{"IPv6 at both", func(c *checkup, p *peerFacts) { c.Own.IPv6, p.IPv6 = true, true }, "let UDP in over IPv6", "have IPv6"},
		{"IPv6 here", func(c *checkup, _ *peerFacts) { c.Own.IPv6 = true }, "give db IPv6", "have IPv6"},
		{"IPv6 there", func(_ *checkup, p *peerFacts) { p.IPv6 = true }, "have IPv6 here", "give db"},
		{"no IPv6", func(*checkup, *peerFacts) {}, "have IPv6 here and at db", "over IPv6"},
		{"guessing here", func(c *checkup, _ *peerFacts) { c.Own.PunchHard = true }, "at db with --punch-hard-nat", "here with --punch"},
		{"guessing there", func(_ *checkup, p *peerFacts) { p.PunchHard = true }, "here with --punch-hard-nat", "at db with --punch"},
		{"guessing", func(c *checkup, p *peerFacts) { c.Own.PunchHard, p.PunchHard = true, true }, "--port-mapping", "--punch"},
		{"a router that refuses", func(c *checkup, _ *peerFacts) { c.Own.MappingAsk = true }, "at db with --port-mapping", "here with --port-mapping"},
		{"a mapped port", func(c *checkup, _ *peerFacts) { c.Own.MappingAsk, c.Own.Mapped = true, true }, "carrier-grade", "here with --port-mapping"},
		{"an address given by hand", func(c *checkup, _ *peerFacts) { c.Own.Static = true }, "leads to UDP port 41641", "HOST:PORT"},
		{"a mapped port there", func(_ *checkup, p *peerFacts) { p.Mapped = true }, "here with --port-mapping", "at db with --port-mapping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, p := relayedPair(discovery.NATEasy, discovery.NATHard)
			tt.have(&c, &p)
			v, _ := judgePeer(c, p)
			ways := strings.Join(v.Direct, "\n")
			if !strings.Contains(ways, tt.want) || strings.Contains(ways, tt.not) {
				t.Errorf("want %q and not %q:\n%s", tt.want, tt.not, ways)
			}
		})
	}
}

func TestPeersInOtherSituations(t *testing.T) {
	shared := []netip.Addr{netip.MustParseAddr("198.51.100.3")}
	for _, tt := range []struct {
		name  string
		is    func(*checkup, *peerFacts)
		level string
		kind  string
		why   string
	}{
		{"direct", func(_ *checkup, p *peerFacts) {
			p.Path = localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: "192.0.2.1:7", RTTMillis: 1.25}
		}, "", localapi.PathDirect, "checks are answered at 192.0.2.1:7 in 1.2 ms"},
		{"nobody talks", func(_ *checkup, p *peerFacts) { p.Path, p.Wanted = localapi.PathStatus{}, false }, "", localapi.PathNone, "nobody talks to it"},
		{"the search began", func(c *checkup, p *peerFacts) { p.Searching = c.Now.Add(-2 * time.Second) }, localapi.LevelNote, localapi.PathRelay, "began 2s ago"},
		{"the search began, no relay", func(c *checkup, p *peerFacts) {
			p.Path, p.Searching = localapi.PathStatus{}, c.Now.Add(-2*time.Second)
		}, "", localapi.PathNone, "there is no path: the search for a direct path began 2s ago"},
		{"no path", func(_ *checkup, p *peerFacts) { p.Path = localapi.PathStatus{} }, localapi.LevelProblem, localapi.PathNone, "there is no path: no NAT stands"},
		{"no path, and no relay of its own", func(_ *checkup, p *peerFacts) { p.Path, p.Relays = localapi.PathStatus{}, 0 }, localapi.LevelProblem, localapi.PathNone, "names no relay"},
		{"no path, and no session here", func(c *checkup, p *peerFacts) { p.Path, c.Relays[0].Connected = localapi.PathStatus{}, false }, localapi.LevelProblem, localapi.PathNone, "no relay is connected here"},
		{"it says nothing", func(_ *checkup, p *peerFacts) { p.Path, p.Offered = localapi.PathStatus{}, false }, localapi.LevelWarning, localapi.PathNone, "no offer of db has come"},
		{"it says nothing, and could not", func(c *checkup, p *peerFacts) {
			p.Offered, c.Service.Connected, c.Relays = false, false, nil
		}, localapi.LevelNote, localapi.PathRelay, "neither the service nor a relay"},
		{"one public address", func(c *checkup, p *peerFacts) { c.Own.Public, p.Public = shared, shared }, localapi.LevelNote, localapi.PathRelay, "both are behind the public address 198.51.100.3"},
		{"one public address without NAT", func(c *checkup, p *peerFacts) { c.Own.Public, p.Public, p.NAT = shared, shared, discovery.NATOpen }, localapi.LevelNote, localapi.PathRelay, "no NAT stands"},
		{"it was direct", func(_ *checkup, p *peerFacts) { p.Answered = 1 }, localapi.LevelNote, localapi.PathRelay, "1 of 4 addresses answered checks before"},
		{"one address", func(_ *checkup, p *peerFacts) { p.Tried = 1 }, localapi.LevelNote, localapi.PathRelay, "one address was checked"},
		{"by TLS", func(_ *checkup, p *peerFacts) { p.Path.Transport = localapi.TransportTLS }, localapi.LevelNote, localapi.PathRelay, "relay service over TLS: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, p := relayedPair(discovery.NATEasy, discovery.NATEasy)
			tt.is(&c, &p)
			v, f := judgePeer(c, p)
			if v.PathKind != tt.kind || f.Level != tt.level || !strings.Contains(v.Why, tt.why) {
				t.Errorf("%s, level %q: %s", v.PathKind, f.Level, v.Why)
			}
			if v.Idle != (tt.name == "nobody talks") {
				t.Errorf("idle %v", v.Idle)
			}
			if v.Direct == nil {
				t.Error("ways are null")
			}
		})
	}
}

func TestFindingsOfThisDevice(t *testing.T) {
	for _, tt := range []struct {
		name           string
		is             func(*checkup)
		level, subject string
		text           string
	}{
		{"all is well", func(*checkup) {}, localapi.LevelOK, "daemon", "joined"},
		{"the service is there", func(*checkup) {}, localapi.LevelOK, "service", "connected to https://h:8443 for 1h0m0s"},
		{"a relay is there", func(*checkup) {}, localapi.LevelOK, "relay", "home relay service is connected over UDP, 20.0 ms away"},
		{"easy", func(*checkup) {}, localapi.LevelOK, "nat", "endpoint-independent mapping"},
		{"not ready", func(c *checkup) { c.Ready, c.Reasons = false, []string{"ingress tcp:80: in use"} }, localapi.LevelProblem, "daemon", "in use"},
		{"the service is away", func(c *checkup) { c.Service.Connected, c.Service.Err = false, "timeout" }, localapi.LevelWarning, "service", "not connected to https://h:8443 for 1h0m0s: timeout"},
		{"never joined", func(c *checkup) { c.Ready, c.Service.Connected = false, false }, localapi.LevelProblem, "service", "not connected"},
		{"hard", func(c *checkup) { c.Own.NAT = discovery.NATHard }, localapi.LevelNote, "nat", "another port"},
		{"not measured", func(c *checkup) { c.Own.NAT = "" }, localapi.LevelNote, "nat", "not measured"},
		{"blocked, relay by TLS", func(c *checkup) {
			c.Own.NAT, c.Relays[0].Transport = discovery.NATBlocked, localapi.TransportTLS
		}, localapi.LevelWarning, "udp", "go through relay service over TLS"},
		{"blocked, no relay", func(c *checkup) { c.Own.NAT, c.Own.UDP, c.Relays = discovery.NATBlocked, false, nil }, localapi.LevelProblem, "udp", "nobody can be reached"},
		{"blocked, but for the LAN", func(c *checkup) { c.Own.NAT, c.Relays = discovery.NATBlocked, nil }, localapi.LevelWarning, "udp", "no STUN server answers over UDP"},
		{"mapped", func(c *checkup) { c.Own.MappingAsk, c.Own.Mapped = true, true }, localapi.LevelOK, "port mapping", "forwards"},
		{"not mapped", func(c *checkup) { c.Own.MappingAsk, c.Own.MappingErr = true, "no router answers" }, localapi.LevelNote, "port mapping", "no router answers"},
		{"no relays", func(c *checkup) { c.Relays = nil }, localapi.LevelNote, "relay", "names no relay"},
		{"TLS where UDP works", func(c *checkup) { c.Relays[0].Transport = localapi.TransportTLS }, localapi.LevelWarning, "relay", "over TLS"},
		{"the other relay", func(c *checkup) {
			c.Relays = append(c.Relays, relayFacts{Name: "two", Connected: true})
			c.Relays[0].Connected, c.Relays[0].Err = false, "timeout"
		}, localapi.LevelWarning, "relay", "another relay is (service: timeout)"},
		{"no relay answers, nobody needs one", func(c *checkup) { c.Relays[0].Connected, c.Peers[0].Path.Kind = false, localapi.PathDirect }, localapi.LevelWarning, "relay", "no relay is connected"},
		{"no relay answers", func(c *checkup) { c.Relays[0].Connected, c.Peers[0].Path.Kind = false, localapi.PathNone }, localapi.LevelProblem, "relay", "no relay is connected"},
		{"the clock is behind", func(c *checkup) { c.ClockKnown, c.ClockAhead = true, -time.Hour }, localapi.LevelWarning, "clock", "1h0m0s behind"},
		{"the clock is ahead", func(c *checkup) { c.ClockKnown, c.ClockAhead = true, 90*time.Second }, localapi.LevelWarning, "clock", "1m30s ahead of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, p := relayedPair(discovery.NATEasy, discovery.NATEasy)
			c.Peers = []peerFacts{p}
			tt.is(&c)
			d := diagnose(c)
			i := slices.IndexFunc(d.Findings, func(f localapi.Finding) bool { return f.Subject == tt.subject })
			if i < 0 {
				t.Fatalf("nothing about %s: %+v", tt.subject, d.Findings)
			}
			if f := d.Findings[i]; f.Level != tt.level || !strings.Contains(f.Text, tt.text) {
				t.Errorf("%+v", f)
			}
			problem := slices.ContainsFunc(d.Findings, func(f localapi.Finding) bool { return f.Level == localapi.LevelProblem })
			if d.OK == problem {
				t.Errorf("ok %v with %+v", d.OK, d.Findings)
			}
		})
	}
}

func TestSmallDifferenceOfClocksIsNone(t *testing.T) {
	c := checkup{ClockKnown: true, ClockAhead: 30 * time.Second}
	if f := judgeClock(c); f != nil {
		t.Errorf("%+v", f)
	}
}

func TestPeersInTroubleComeFirst(t *testing.T) {
	c, relayed := relayedPair(discovery.NATHard, discovery.NATHard)
	idle, none, direct, other := relayed, relayed, relayed, relayed
	idle.Name, idle.Wanted, idle.Path = "idle", false, localapi.PathStatus{}
	none.Name, none.Path = "none", localapi.PathStatus{}
	direct.Name, direct.Path = "direct", localapi.PathStatus{Kind: localapi.PathDirect}
	other.Name = "cache"
	c.Peers = []peerFacts{idle, direct, relayed, other, none}
	var names []string
	for _, p := range diagnose(c).Peers {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "none cache db direct idle" {
		t.Error(got)
	}
	if c.Peers[0].Name != "idle" {
		t.Error("the facts were put in order")
	}
}

func TestDoctorWithoutFacts(t *testing.T) {
	d := diagnose(checkup{Peers: []peerFacts{{}}})
	if !d.OK || len(d.Peers) != 1 {
		t.Errorf("%+v", d)
	}
}
