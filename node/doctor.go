package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nexd/discovery"
	"nexd/localapi"
)

// checkup is all the doctor looks at: plain facts as they were measured or
// told. A zero field is one that is not known, and nothing is concluded from it.
type checkup struct {
	Now     time.Time
	Ready   bool
	Reasons []string // why it is not ready
	// Outside: the device is no member now, so no network was looked at;
	// Expelled: because the service no longer knows it.
	Outside, Expelled bool

	Service serviceFacts
	Own     ownFacts
	Relays  []relayFacts // every relay the service names
	Peers   []peerFacts
	// ClockAhead is this clock minus the service's, if ClockKnown.
	ClockKnown bool
	ClockAhead time.Duration
}

// serviceFacts is the connection to the control service.
type serviceFacts struct {
	URL       string
	Connected bool
	Since     time.Time // of Connected
	Err       string    // why it is not connected
}

// sideFacts is one end's way to the internet.
type sideFacts struct {
	NAT       string       // a kind of discovery's; empty: not known
	IPv6      bool         // a global IPv6 address is among its candidates
	Public    []netip.Addr // as servers see it
	Mapped    bool         // a router forwards a port to it
	Static    bool         // a person named an address it can be reached at
	PunchHard bool         // it may spend checks on guessing ports of hard NATs
}

// ownFacts is this end.
type ownFacts struct {
	sideFacts
	Port       uint16 // of the UDP socket; 0: not open
	UDP        bool   // some server or peer answered over UDP
	MappingAsk bool   // the router is asked for a port
	MappingErr string // why none came of it
}

// relayFacts is one relay of the network.
type relayFacts struct {
	Name      string
	Home      bool
	Connected bool
	Transport string // one of localapi's; empty: no session
	RTT       time.Duration
	Err       string // why there is no session
}

// peerFacts is the other end, and what lies between.
type peerFacts struct {
	sideFacts // as its last offer says
	Name      string
	Path      localapi.PathStatus
	Silent    bool      // the direct path owes an answer
	Wanted    bool      // there is traffic with it, or somebody tries
	Offered   bool      // an offer of it came in this life: sideFacts are known
	Searching time.Time // since when a direct path is looked for in vain; zero: no search
	Next      time.Time // the next round of checks; zero: none is planned
	Relays    int       // relays that it says it can be reached by
	Tried     int       // of its addresses (no relays), those that were checked
	Answered  int       // and those that answered at any time in this life
}

// clockTolerance is what clocks may differ by before anybody need care.
const clockTolerance = time.Minute

// diagnose judges the facts. It concludes nothing from what is not known.
func diagnose(c checkup) localapi.Doctor {
	d := localapi.Doctor{Schema: localapi.Schema}
	looks := []func(checkup) []localapi.Finding{judgeDaemon, judgeService, judgeNAT, judgeMapping, judgeRelays, judgeClock}
	if c.Outside {
		looks = looks[:2]
	}
	for _, look := range looks {
		d.Findings = append(d.Findings, look(c)...)
	}
	peers := slices.SortedStableFunc(slices.Values(c.Peers), func(a, b peerFacts) int {
		return cmp.Or(cmp.Compare(interest(a), interest(b)), strings.Compare(a.Name, b.Name))
	})
	for _, p := range peers {
		verdict, finding := judgePeer(c, p)
		d.Peers = append(d.Peers, verdict)
		if finding.Level != "" {
			d.Findings = append(d.Findings, finding)
		}
	}
	d.OK = !slices.ContainsFunc(d.Findings, func(f localapi.Finding) bool { return f.Level == localapi.LevelProblem })
	return d
}

// interest orders peers: those without a path first, those nobody talks to last.
func interest(p peerFacts) int {
	switch {
	case p.Path.Kind == localapi.PathRelay:
		return 1
	case p.Path.Kind == localapi.PathDirect:
		return 2
	case p.Wanted:
		return 0
	}
	return 3
}

func judgeDaemon(c checkup) (out []localapi.Finding) {
	if c.Ready {
		return []localapi.Finding{{Level: localapi.LevelOK, Subject: "daemon", Text: "the device is joined, its tunnel is up, and every rule listens"}}
	}
	for _, r := range c.Reasons {
		out = append(out, localapi.Finding{Level: localapi.LevelProblem, Subject: "daemon", Text: r})
	}
	return out
}

func judgeService(c checkup) []localapi.Finding {
	s := c.Service
	if s.URL == "" || c.Expelled { // then it is not the way to the service that is wrong
		return nil
	}
	if s.Connected {
		return []localapi.Finding{{Level: localapi.LevelOK, Subject: "service", Text: "connected to " + s.URL + since(s.Since, c.Now)}}
	}
	text := "not connected to " + s.URL + since(s.Since, c.Now)
	if s.Err != "" {
		text += ": " + s.Err
	}
	f := localapi.Finding{
		Level: localapi.LevelWarning, Subject: "service", Text: text,
		Advice: "open paths and known peers keep working; let this host reach the service by HTTPS",
	}
	if !c.Ready {
		f.Level, f.Advice = localapi.LevelProblem, "let this host reach the service by HTTPS"
	}
	return []localapi.Finding{f}
}

// explainNAT says in the words of RFC 4787 what a kind of NAT means. Two
// servers at two addresses cannot tell whether the port depends on the
// destination's address alone or on its port, too.
func explainNAT(kind string) string {
	switch kind {
	case discovery.NATOpen:
		return "no NAT: servers see this device at an address of its own"
	case discovery.NATEasy:
		return "a NAT with endpoint-independent mapping: every destination sees this device at the same address and port, so peers can be told it"
	case discovery.NATHard:
		return "a NAT with address-dependent, or address- and port-dependent mapping: each destination sees this device at another port, so peers cannot be told theirs"
	case discovery.NATBlocked:
		return "no STUN server answers over UDP"
	}
	return "not measured: that takes answers from two STUN servers at different addresses"
}

func judgeNAT(c checkup) []localapi.Finding {
	f := localapi.Finding{Level: localapi.LevelOK, Subject: "nat", Text: explainNAT(c.Own.NAT)}
	switch c.Own.NAT {
	case discovery.NATOpen, discovery.NATEasy:
	case discovery.NATHard:
		f.Level = localapi.LevelNote
		if !c.Own.Mapped && !c.Own.Static {
			f.Advice = mappingAdvice(c.Own)
		}
	case discovery.NATBlocked:
		f.Subject, f.Level = "udp", localapi.LevelWarning
		f.Advice = "let UDP out of this host's network, and the answers in"
		if r, ok := sessionBy(c.Relays, localapi.TransportTLS); ok {
			f.Text += ": packets go through relay " + r.Name + " over TLS"
		} else if !anySession(c.Relays) && !c.Own.UDP {
			f.Level = localapi.LevelProblem
			f.Text += ", and no relay is connected: nobody can be reached"
		}
	default:
		f.Level = localapi.LevelNote
		f.Advice = "name a second STUN server with --stun-server, if this stays so"
	}
	return []localapi.Finding{f}
}

// mappingAdvice is how this end gets a port that others can be told.
func mappingAdvice(o ownFacts) string {
	if o.MappingAsk {
		return "forward a UDP port of the router to this host by hand, and name it with --endpoint HOST:PORT"
	}
	return "start nexd with --port-mapping where the router knows UPnP, NAT-PMP or PCP; or forward a UDP port by hand and name it with --endpoint HOST:PORT"
}

func judgeMapping(c checkup) []localapi.Finding {
	switch {
	case !c.Own.MappingAsk:
		return nil
	case c.Own.Mapped:
		return []localapi.Finding{{Level: localapi.LevelOK, Subject: "port mapping", Text: "the router forwards a port to this device"}}
	case c.Own.MappingErr != "":
		return []localapi.Finding{{Level: localapi.LevelNote, Subject: "port mapping", Text: "the router was asked for a port: " + c.Own.MappingErr}}
	}
	return nil
}

func judgeRelays(c checkup) []localapi.Finding {
	f := localapi.Finding{Subject: "relay", Level: localapi.LevelOK}
	home := slices.IndexFunc(c.Relays, func(r relayFacts) bool { return r.Home })
	switch {
	case len(c.Relays) == 0:
		f.Level, f.Text = localapi.LevelNote, "the service names no relay: where no direct path is found, there is none"
	case home >= 0 && c.Relays[home].Connected:
		r := c.Relays[home]
		f.Text = "home relay " + r.Name + " is connected over " + transportName(r.Transport) + took(r.RTT)
		if r.Transport == localapi.TransportTLS && (c.Own.NAT == discovery.NATOpen || c.Own.NAT == discovery.NATEasy || c.Own.NAT == discovery.NATHard) {
			f.Level, f.Advice = localapi.LevelWarning, "UDP works elsewhere: let UDP to the relay's port through, it is faster"
		}
	case anySession(c.Relays):
		f.Level = localapi.LevelWarning
		f.Text = "the home relay is not connected, another relay is" + whyNot(c.Relays)
	default:
		f.Level, f.Text = localapi.LevelWarning, "no relay is connected"+whyNot(c.Relays)
		f.Advice = "let this host reach a relay, by UDP or by HTTPS"
		// A relay that is away hurts where no direct path does its work.
		if slices.ContainsFunc(c.Peers, func(p peerFacts) bool { return interest(p) < 2 }) {
			f.Level = localapi.LevelProblem
		}
	}
	return []localapi.Finding{f}
}

func judgeClock(c checkup) []localapi.Finding {
	if !c.ClockKnown || c.ClockAhead.Abs() <= clockTolerance {
		return nil
	}
	way := "ahead of"
	if c.ClockAhead < 0 {
		way = "behind"
	}
	return []localapi.Finding{{
		Level: localapi.LevelWarning, Subject: "clock",
		Text:   fmt.Sprintf("this host's clock is %s %s the service's", c.ClockAhead.Abs().Round(time.Second), way),
		Advice: "set the clock, for instance by NTP: certificates are valid at certain times only",
	}}
}

func sessionBy(relays []relayFacts, transport string) (relayFacts, bool) {
	i := slices.IndexFunc(relays, func(r relayFacts) bool { return r.Connected && r.Transport == transport })
	if i < 0 {
		return relayFacts{}, false
	}
	return relays[i], true
}

func anySession(relays []relayFacts) bool {
	return slices.ContainsFunc(relays, func(r relayFacts) bool { return r.Connected })
}

// whyNot lists what stands between this device and the relays.
func whyNot(relays []relayFacts) string {
	var out []string
	for _, r := range relays {
		if !r.Connected && r.Err != "" && len(out) < 4 {
			out = append(out, r.Name+": "+r.Err)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, "; ") + ")"
}

func transportName(t string) string { return strings.ToUpper(t) }

// took is a round trip behind a sentence, when it is known.
func took(rtt time.Duration) string {
	if rtt <= 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f ms away", millis(rtt))
}

// since is how long something lasts, behind a sentence.
func since(t, now time.Time) string {
	if t.IsZero() || now.Before(t) {
		return ""
	}
	return " for " + now.Sub(t).Round(time.Second).String()
}
