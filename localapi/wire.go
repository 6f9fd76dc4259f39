package localapi

import (
	"fmt"

	"nexd/rules"
)

// Limits of one request.
const (
	maxBody  = 1 << 20 // bytes
	maxRules = 10000   // added and removed together
)

// RuleText is a rule as it is written.
type RuleText struct {
	Direction string `json:"direction"`
	Rule      string `json:"rule"`
}

// TextOf returns the written form of a rule.
func TextOf(s rules.Spec) RuleText {
	return RuleText{Direction: s.Direction().String(), Rule: s.String()}
}

// Parse is the inverse of [TextOf].
func (t RuleText) Parse() (rules.Spec, error) {
	for _, d := range []rules.Direction{rules.Ingress, rules.Egress} {
		if t.Direction == d.String() {
			return rules.Parse(d, t.Rule)
		}
	}
	return rules.Spec{}, &UserError{
		Message: fmt.Sprintf("direction %q of rule %q is unknown", t.Direction, t.Rule),
		Hint:    "write ingress or egress",
	}
}

// RuleChange removes and adds rules in one step.
type RuleChange struct {
	Add    []RuleText `json:"add,omitempty"`
	Remove []RuleText `json:"remove,omitempty"`
}

// RuleList is every declared rule with its state.
type RuleList struct {
	Rules []RuleStatus `json:"rules"`
}

// PingRequest asks for one echo request to a peer.
type PingRequest struct {
	Peer string `json:"peer"`
	// TimeoutMillis bounds the wait for the answer; 0 is [DefaultPingTimeout].
	TimeoutMillis int64 `json:"timeout_ms,omitempty"`
}

// LogLevel is debug, info, warn or error.
type LogLevel struct {
	Level string `json:"level"`
}

// Problem is the body of a refusal, and the error a [Client] makes of it.
type Problem struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
	// Status is the HTTP status it came with.
	Status int `json:"-"`
}

func (p *Problem) Error() string { return p.Message }
