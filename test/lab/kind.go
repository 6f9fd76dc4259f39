//go:build linux

package lab

import (
	"fmt"
	"slices"
)

// Kind is what stands between a site's nodes and the public network. Mapping
// and filtering are words of RFC 4787: EIM, endpoint-independent mapping; ADM
// and APDM, a mapping of its own for each remote address, or address and port;
// EIF, ADF and APDF, filtering likewise.
type Kind uint8

const (
	_ Kind = iota
	// Public nodes have public addresses and no filter.
	Public
	// Firewall nodes have public addresses behind a stateful firewall.
	Firewall
	// FullCone is EIM and EIF, also when two nodes use the same port.
	FullCone
	// AddrRestricted is EIM and ADF.
	AddrRestricted
	// StrictPortRestricted is EIM and APDF, also when two nodes use the same port.
	StrictPortRestricted
	// PortRestricted is what Linux does by itself: ports are kept, APDF, and EIM
	// until two nodes use the same port.
	PortRestricted
	// LinuxOpen is PortRestricted by a host that does not drop what comes in
	// unasked before connection tracking has noted it (a host of containers, a
	// cloud machine). A peer's early probe then takes the very tuple our answer
	// needs, which moves to another port: see TestStickyTrap.
	LinuxOpen
	// Symmetric is APDM with random ports, and APDF.
	Symmetric
	// SymmetricSequential is Symmetric with ports that count up.
	SymmetricSequential
	// SymmetricAddr is ADM and APDF.
	SymmetricAddr
	// CGNAT is a home router behind a carrier's NAT: see [Options.Inner].
	CGNAT
	// UDPBlocked lets nothing out but TCP to port 443.
	UDPBlocked
)

var kindNames = []string{
	"invalid", "none", "fw", "full-cone", "addr-restricted", "eim-apdf", "port-restricted",
	"linux-open", "symmetric", "symmetric-seq", "symmetric-ad", "cgnat", "udp-blocked",
}

// Kinds returns every kind, in the order of their numbers.
func Kinds() []Kind {
	var all []Kind
	for k := Public; k <= UDPBlocked; k++ {
		all = append(all, k)
	}
	return all
}

// String returns the short name, as ParseKind reads it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[0]
}

// ParseKind reads a kind's short name.
func ParseKind(s string) (Kind, error) {
	if i := slices.Index(kindNames, s); i > 0 {
		return Kind(i), nil
	}
	return 0, fmt.Errorf("no kind %q: want one of %v", s, kindNames[1:])
}

// public reports whether the nodes have public addresses of their own.
func (k Kind) public() bool { return k == Public || k == Firewall }

// strict reports whether the mapping stays endpoint-independent whatever the
// ports; nftables maps see to it, where Linux by itself would not.
func (k Kind) strict() bool {
	return k == FullCone || k == AddrRestricted || k == StrictPortRestricted
}
