package localapi

import (
	"net/netip"
	"time"

	"nexd/key"
)

// Limits of the documents: what a daemon names beyond them is left out and
// counted, however much a peer may have announced.
const (
	MaxCandidates = 64  // of one peer, and of our own
	MaxHistory    = 32  // events of one peer
	MaxText       = 512 // bytes of one sentence
)

// States of a candidate.
const (
	CandidatePath     = "path"     // packets go there
	CandidateAnswered = "answered" // it answered a check lately
	CandidateWaiting  = "waiting"  // a check is under way
	CandidateSilent   = "silent"   // it was checked and did not answer
	CandidateUntried  = "untried"
)

// Kinds of a candidate, in the words of RFC 8445 where it has one.
const (
	CandidateHost            = "host"
	CandidateServerReflexive = "server-reflexive"
	CandidateMapped          = "mapped" // the router was asked for it
	CandidateStatic          = "static" // given by a person
	CandidatePeerReflexive   = "peer-reflexive"
	CandidatePredicted       = "predicted" // a port that the peer's NAT may choose next
	CandidateHint            = "hint"      // remembered from an earlier life
	CandidateRelay           = "relay"
)

// Trace is the document of `nexctl nexd peers trace PEER`: how packets reach a
// peer, what else was tried, and what happened lately.
type Trace struct {
	Schema int       `json:"schema"`
	Peer   TracePeer `json:"peer"`
	// State is where the search for a path stands: idle, start, punch, direct,
	// suspect, relayed or searching.
	State string     `json:"state"`
	Since time.Time  `json:"since,omitzero"` // of State and Path
	Path  PathStatus `json:"path"`
	// Spare is the other path that is kept beside Path; its kind is none
	// without one. Both says that packets go by both just now.
	Spare PathStatus `json:"spare"`
	Both  bool       `json:"both"`
	// MTU is the largest packet to the peer inside the tunnel, in bytes; 0: it was
	// never talked to.
	MTU int `json:"mtu"`
	// PeerNAT is the peer's kind of NAT as its last offer says; unknown before one came.
	PeerNAT    string      `json:"peer_nat"`
	PeerRelays []RelayName `json:"peer_relays"` // home first
	Rounds     TraceRounds `json:"rounds"`
	// Candidates are the peer's, the path first; Omitted of them are left out.
	Candidates []Candidate `json:"candidates"`
	Omitted    int         `json:"candidates_omitted"`
	// OwnCandidates are those this device offers.
	OwnCandidates []OwnCandidate `json:"own_candidates"`
	History       []TraceEvent   `json:"history"` // oldest first
}

// TracePeer is who is traced.
type TracePeer struct {
	Name      string       `json:"name"`
	ID        string       `json:"id"`
	PublicKey key.Public   `json:"public_key"`
	Addresses []netip.Addr `json:"addresses"`
}

// RelayName is a relay that the peer keeps a session with.
type RelayName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// TraceRounds are the rounds of checks since the search began.
type TraceRounds struct {
	Count int       `json:"count"`
	Next  time.Time `json:"next,omitzero"` // zero: none is planned
}

// Candidate is one way a peer may be reached.
type Candidate struct {
	Address string `json:"address"` // IP:PORT; empty for a relay
	Relay   string `json:"relay"`   // the relay's name; empty for an address
	Kind    string `json:"kind"`
	State   string `json:"state"`
	// RTTMillis is the best of the last checks; 0: none was answered.
	RTTMillis  float64   `json:"rtt_ms"`
	LastSent   time.Time `json:"last_sent,omitzero"`
	LastAnswer time.Time `json:"last_answer,omitzero"`
	Checks     uint64    `json:"checks"`  // sent
	Answers    uint64    `json:"answers"` // received and verified
}

// OwnCandidate is one way others are told to reach this device by.
type OwnCandidate struct {
	Address netip.AddrPort `json:"address"`
	Kind    string         `json:"kind"`
}

// TraceEvent is something that happened to a peer's path.
type TraceEvent struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}
