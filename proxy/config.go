package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"nexd/rules"
)

// Mesh is the network inside the tunnel. Listeners and connections behave like
// those of package net: Close unblocks, errors are syscall errnos inside, and
// streams have CloseWrite. A Reset method, where there is one, sends a RST.
type Mesh interface {
	ListenTCP(netip.AddrPort) (net.Listener, error)
	DialTCP(context.Context, netip.AddrPort) (net.Conn, error)
	ListenUDP(netip.AddrPort) (net.PacketConn, error)
	DialUDP(netip.AddrPort) (net.Conn, error)
}

// Directory knows the members of the mesh. Its methods return soon, are safe
// for concurrent use, and what they return is not changed afterwards.
type Directory interface {
	// Addresses returns this device's own mesh addresses.
	Addresses() []netip.Addr
	// Resolve returns the addresses of the device with this name ("db" or
	// "db.nexd.internal"), nothing if there is none.
	Resolve(name string) []netip.Addr
	// Who returns the member that has a mesh address.
	Who(netip.Addr) (name string, tags []string, ok bool)
}

// Config is what an Engine needs. Mesh and Directory are required.
type Config struct {
	Mesh      Mesh
	Directory Directory
	Log       *slog.Logger // nil: nothing is logged
	// DrainTimeout is how long connections may take to finish when their rule
	// is removed or the engine ends. 0: 10 s; negative: none.
	DrainTimeout time.Duration
	// OnChange is called, from any goroutine and without a lock held, after the
	// state of a rule changed. It must not block.
	OnChange func()
}

// States of a rule.
const (
	StateListening = "listening"
	StateDegraded  = "degraded"
	StateFailed    = "failed"
)

// RuleStatus is one declared rule.
type RuleStatus struct {
	Rule     rules.Rule
	State    string // StateListening, StateDegraded or StateFailed
	Error    string // why it is not StateListening
	Active   int64  // connections or flows now
	Total    int64  // connections or flows taken since the rule was applied
	BytesIn  int64  // bytes from those who connect to the destination
	BytesOut int64  // bytes from the destination back
	Stats    Stats
}

// Stats counts what did not go through, by reason.
type Stats struct {
	RefusedAllow int64 // the source is not in allow
	RefusedMax   int64 // over the bound of the rule
	RefusedPeer  int64 // over the bound of one source address
	RefusedDial  int64 // no destination could be reached
	DialErrors   int64 // attempts to reach this rule's destination that failed
	Resets       int64 // streams that ended with a RST
	IdleEnds     int64 // streams and flows that ended by their idle timeout
	Cut          int64 // streams closed at the end of a drain
	Evicted      int64 // flows that made room for newer ones
	Unreachable  int64 // flows ended by an ICMP error or a failed write
	DroppedIn    int64 // datagrams from clients that were dropped
	DroppedOut   int64 // datagrams from destinations that were dropped
}

// CheckResult is what Engine.Check found for one rule; empty errors are good.
type CheckResult struct {
	Rule      rules.Rule
	Listening []netip.AddrPort // where it can listen
	Listen    error
	Resolved  []netip.Addr // of a destination that is a name
	Dial      error        // tcp only; of udp only the name is tried
}

// OK reports whether nothing speaks against the rule.
func (c CheckResult) OK() bool { return c.Listen == nil && c.Dial == nil }
