package discovery

import "strconv"

// State is where a peer stands; the picture of the states is at machine.
type State uint8

const (
	_         State = iota
	Idle            // nobody wants to talk; nothing is sent
	Start           // an offer is on its way, the answer awaited; a relay may carry data
	Punch           // checks go to all candidates; a relay may carry data
	Relayed         // a relay carries data; a direct path is looked for from time to time
	Direct          // a direct path is proved and kept
	Suspect         // the direct path stopped answering; others are looked for
	Searching       // no path at all; rounds are made from time to time
)

// String returns the word for logs and status.
func (s State) String() string {
	switch s {
	case Idle:
		return "idle"
	case Start:
		return "start"
	case Punch:
		return "punch"
	case Relayed:
		return "relayed"
	case Direct:
		return "direct"
	case Suspect:
		return "suspect"
	case Searching:
		return "searching"
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}
