// Package logkey names the attributes of log lines, so that one thing has one
// name in every line the program writes.
package logkey

const (
	Addr      = "addr"      // a network address
	Candidate = "candidate" // an address a peer may be reached at
	Count     = "count"
	Device    = "device" // a device's name
	Direction = "direction"
	Err       = "err"
	File      = "file"
	Path      = "path" // how packets reach a peer
	Peer      = "peer" // a peer's name, or the start of its key
	Port      = "port"
	Reason    = "reason"
	Relay     = "relay" // a relay's name
	Revision  = "revision"
	Rule      = "rule"
	RTT       = "rtt"
	State     = "state"
	Task      = "task"
	URL       = "url"
	Wait      = "wait" // time until the next try
)
