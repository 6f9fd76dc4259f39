//go:build linux

package lab

// Claim is what a kind of NAT says of itself, in the words of RFC 4787. The
// zero value lets no UDP through.
type Claim struct {
	Mapping, Filtering Dependence
	Ports              Ports
}

var claims = map[Kind]Claim{
	Public:               {Independent, Independent, Preserved},
	Firewall:             {Independent, OnAddressPort, Preserved},
	FullCone:             {Independent, Independent, Preserved},
	AddrRestricted:       {Independent, OnAddress, Preserved},
	StrictPortRestricted: {Independent, OnAddressPort, Preserved},
	PortRestricted:       {Independent, OnAddressPort, Preserved},
	LinuxOpen:            {Independent, OnAddressPort, Preserved},
	Symmetric:            {OnAddressPort, OnAddressPort, Changed},
	SymmetricSequential:  {OnAddressPort, OnAddressPort, Sequential},
	SymmetricAddr:        {OnAddress, OnAddressPort, Changed},
	CGNAT:                {Independent, OnAddressPort, Preserved},
}

// Claim returns what the tests hold the kind to.
func (k Kind) Claim() Claim { return claims[k] }

// Punchable says by the theory alone whether UDP sockets behind two kinds reach
// each other when both start at once: both mappings are known, or the unknown
// one's packets pass the other side's filter, which then sees where to answer.
func Punchable(a, b Kind) bool {
	x, y := claims[a], claims[b]
	switch {
	case a == UDPBlocked || b == UDPBlocked:
		return false
	case x.Mapping == Independent && y.Mapping == Independent:
		return true
	case x.Mapping == Independent:
		return x.Filtering != OnAddressPort
	case y.Mapping == Independent:
		return y.Filtering != OnAddressPort
	}
	return false
}
