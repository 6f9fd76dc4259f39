package node

import (
	"net/netip"
	"time"

	"nexd/localapi"
)

// checkup is all the doctor looks at: plain facts as they were measured or
// told. A zero field is one that is not known, and nothing is concluded from it.
type checkup struct {
	Now     time.Time
	Ready   bool
	Reasons []string // why not ready
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
	Since     time.Time
	Err       string // why it is not connected
}

// sideFacts is one end's way to the internet.
type sideFacts struct {
	NAT       string       // a kind of discovery's
	IPv6      bool         // a global IPv6 address is offered
	Public    []netip.Addr // as servers see it
	Mapped    bool         // a router forwards a port to it
	Static    bool         // a person named an address it is reached at
	PunchHard bool         // it spends a budget of checks on hard NATs
}

// ownFacts is this end.
type ownFacts struct {
	sideFacts
	Port        uint16 // of the UDP socket
	MappingAsk  bool   // the router is asked for a port
	MappingErr  string // what came of it, when no port did
	RelayOnly   bool
	CheckedPath bool // some peer or server answered over UDP
}

// relayFacts is one relay.
type relayFacts struct {
	Name      string
	Home      bool
	Standby   bool
	Connected bool
	Transport string // of localapi's; empty: not connected
	RTT       time.Duration
	Err       string
}

// peerFacts is the other end and what lies between.
type peerFacts struct {
	sideFacts // as its last offer says
	Name      string
	Path      localapi.PathStatus
	Wanted    bool      // somebody here talks to it, or it to us
	Offered   bool      // an offer of it came in this life
	Searching time.Time // since when no direct path is found; zero: no search
	Next      time.Time // the next round; zero: none planned
	Rounds    int
	Relays    int // relays it can be reached through
	Tried     int // addresses that were checked
	Answered  int // of these
}

// diagnose judges the facts.
func diagnose(c checkup) localapi.Doctor {
	d := localapi.Doctor{Schema: localapi.Schema}
	for _, r := range c.Reasons {
		d.Findings = append(d.Findings, localapi.Finding{Level: localapi.LevelProblem, Subject: "daemon", Text: r})
	}
	d.OK = len(c.Reasons) == 0
	return d
}

// explainNAT says in RFC 4787's words what a kind of NAT means.
func explainNAT(kind string) string { return kind }
