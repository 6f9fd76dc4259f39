package localapi

// Limits of a doctor's report.
const (
	MaxFindings    = 256
	MaxDoctorPeers = 1000
	MaxWays        = 8 // to make a path direct
)

// Levels of a finding.
const (
	LevelOK      = "ok"
	LevelNote    = "note"    // worth knowing, nothing to do
	LevelWarning = "warning" // it works, and could work better
	LevelProblem = "problem" // something does not work
)

// Doctor is the document of `nexctl nexd doctor`: what is wrong, why paths are
// what they are, and what to do.
type Doctor struct {
	Schema int `json:"schema"`
	// OK: no finding is a problem.
	OK       bool      `json:"ok"`
	Findings []Finding `json:"findings"`
	// Peers are those somebody talks to first; Omitted of them are left out.
	Peers   []PeerFinding `json:"peers"`
	Omitted int           `json:"peers_omitted"`
}

// Finding is one sentence of the doctor.
type Finding struct {
	Level string `json:"level"`
	// Subject is a peer's name, or daemon, service, udp, nat, port mapping, relay or
	// clock.
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Advice  string `json:"advice"` // empty: nothing to do
}

// PeerFinding is why the path to a peer is what it is.
type PeerFinding struct {
	Name     string `json:"name"`
	PathKind string `json:"path_kind"` // direct, relay or none
	// Idle: nobody talks to it, so no path is looked for.
	Idle bool   `json:"idle"`
	Why  string `json:"why"`
	// Direct lists what would make the path direct, the easiest first; any one
	// of them does.
	Direct []string `json:"what_would_make_it_direct"`
}
