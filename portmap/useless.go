package portmap

import (
	"fmt"
	"net/netip"
)

// behindNAT are addresses a gateway has outside when there is another NAT in
// front of it, beside the private ones.
var behindNAT = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598: carriers
	netip.MustParsePrefix("192.0.0.0/24"),  // RFC 7335: DS-Lite, 464XLAT
}

// notOutside are addresses nobody has on the internet.
var notOutside = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/8"), netip.MustParsePrefix("ff00::/8"),
}

// useless says why nobody on the internet reaches an address; "": they may.
func useless(a netip.Addr) string {
	switch {
	case !a.IsValid() || a.IsUnspecified():
		return "the gateway has no address outside"
	case a.IsPrivate() || a.IsLinkLocalUnicast() || within(behindNAT, a):
		return "the gateway itself is behind a NAT"
	case within(notOutside, a):
		return fmt.Sprintf("the gateway says that its address is %s", a)
	}
	return ""
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
