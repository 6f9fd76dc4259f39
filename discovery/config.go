package discovery

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"nexd/key"
)

// Config is what an [Agent] is made of. The functions are called from the
// agent's own goroutines, never two calls of one function at a time except
// Signal; they may call the agent's methods.
type Config struct {
	// Private is this device's key. Required.
	Private key.Private
	// Log takes one line per change of a path; nil: none.
	Log *slog.Logger

	// Socket is the UDP socket shared with WireGuard. Required.
	Socket Socket
	// Paths is told where packets to a peer go. Required.
	Paths Paths

	// Signal brings a sealed offer to a peer. It may block until ctx ends, and
	// returns an error when the peer or the service is away; then the agent
	// tries again with its next round. At most [signalWorkers] calls run at a
	// time. Nil: there is no signalling, only remembered addresses are checked.
	Signal func(ctx context.Context, to key.Public, sealed []byte) error
	// Activity returns what passed between this node and the peer. It must be
	// cheap. Nil: nothing ever.
	Activity func(peer key.Public) Activity
	// UseRelay asks for a session with a relay for some minutes. It must not
	// block. Nil: nobody.
	UseRelay func(relay uint16)
	// Activate is told that a peer proved itself by a check or an offer, at
	// most once a second per peer. Nil: nobody.
	Activate func(peer key.Public)

	// STUN lists servers as host:port; the agent resolves the names.
	STUN []string
	// Static are addresses this device can be reached at from outside.
	Static []netip.AddrPort
	// LocalIP is offered in place of the addresses of the interfaces, if valid.
	LocalIP netip.Addr
	// PunchHard has the ports of hard NATs guessed, with peers that allow it,
	// too: see prober for what that may cost. The next three are needed then.
	PunchHard bool
	// OpenSocket opens a UDP socket for IPv4 on a port of the system's choice. It
	// may be called from several goroutines.
	OpenSocket func() (*net.UDPConn, error)
	// Adopt has all packets to and from remote use conn from now on. The socket is
	// the callee's as of the call, and closed when it returns an error.
	Adopt func(conn *net.UDPConn, remote netip.AddrPort) error
	// Release ends that: packets to remote use Socket again.
	Release func(remote netip.AddrPort)
	// Exclude reports addresses that are never candidates: the mesh's own
	// ranges. It may be called from several goroutines. Nil: none.
	Exclude func(netip.Addr) bool

	// MaxMTU is the largest packet inside the tunnel, in bytes, that is looked for
	// on the paths to peers, at most 8920. 0: none is; OnMTU is never called then.
	MaxMTU int
	// OnMTU is told how large packets to a peer may be from now on: 1280 at
	// first, more once a check of that size passed, 1280 at once on another path
	// and when packets vanish; 0 when the peer is no member any more. It must not
	// block.
	OnMTU func(peer key.Public, mtu int)

	// OnChange is told that Peer or NAT answer differently now. It must not block.
	OnChange func()
	// Hints are addresses peers were reached at in an earlier life.
	Hints []Hint
	// OnHints is given the hints worth keeping, at most every 10 s and once at
	// the end, when they changed. At most 256 peers with 8 addresses each. Nil: nobody.
	OnHints func([]Hint)
}

// Socket sends STUN messages; *bind.Bind is one.
type Socket interface {
	// WriteSTUN sends pkt to an address and does not keep it.
	WriteSTUN(pkt []byte, to netip.AddrPort) error
	// WriteRelay sends pkt to a peer through a relay and does not keep it.
	WriteRelay(relay uint16, peer key.Public, pkt []byte) error
	// WriteWhole sends pkt to a peer, by an address that may stand for a relay, not
	// to be fragmented on its way, and does not keep it. An error that is
	// syscall.EMSGSIZE says that this host knows the path to carry less, one that
	// is errors.ErrUnsupported that it cannot send so.
	WriteWhole(pkt []byte, peer key.Public, to netip.AddrPort) error
	// Port is the local UDP port; 0 while the socket is closed.
	Port() uint16
}

// Paths is told where packets to a peer go. Addresses may stand for relays
// (package relaypath).
type Paths interface {
	// SetRoute sets the path of a peer; an invalid one means that there is none.
	// Handshakes go to spare as well, if it is valid, and while both is set all
	// packets do.
	SetRoute(peer key.Public, path, spare netip.AddrPort, both bool)
}

// Peer is a member of the network.
type Peer struct {
	Key key.Public
	// Relays are those it is said to be at, its home first, by their numbers.
	Relays []uint16
}

// Relay is a relay this node knows.
type Relay struct {
	Number uint16 // as in relaypath; never 0
	Name   string // for people
	Key    key.Public
	Up     bool // there is a session
	Shaky  bool // which owes an answer
	TLS    bool // the session is not over UDP
	Own    bool // our home, or standby, in this order: peers are told to find us there
}

// Hint is where a peer was reachable at some time: worth a check when nothing newer is known.
type Hint struct {
	Peer  key.Public
	Addrs []netip.AddrPort // best first
	Seen  time.Time        // when the first of them last answered
}

// PeerPath is how a peer is reached now.
type PeerPath struct {
	Addr  netip.AddrPort // may stand for a relay; invalid: there is no path
	Spare netip.AddrPort // the second way, for handshakes
	Both  bool           // packets take both
	RTT   time.Duration  // the best of the last checks; 0 without a path
	Since time.Time      // when State or Addr last changed
	Held  time.Time      // when Addr became the path; zero without one
	State State
	// MTU is the largest packet inside the tunnel; 0: none was looked for.
	MTU int
}

// Kinds of NAT, in the words of [NATInfo].
const (
	NATUnknown = "unknown" // not measured, or one server only
	NATOpen    = "open"    // none: the mapped address is our own
	NATEasy    = "easy"    // endpoint-independent mapping (RFC 4787)
	NATHard    = "hard"    // the mapping depends on the destination
	NATBlocked = "blocked" // no STUN server answers over UDP
)

// NATInfo is what the STUN servers say about the way to the internet. It only
// explains: no attempt depends on it.
type NATInfo struct {
	Kind   string
	Mapped []netip.AddrPort // as servers see us, v4 first
	UDP    bool             // some server or peer answered over UDP
}
