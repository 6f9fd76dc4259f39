package node

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"nexd/discovery"
	"nexd/localapi"
)

// pathPatience is how long a search for a path may take before anybody is told of it.
const pathPatience = 10 * time.Second

// judgePeer says why the path to a peer is what it is. The finding is empty
// (no level) where there is nothing to say to a person.
func judgePeer(c checkup, p peerFacts) (localapi.PeerFinding, localapi.Finding) {
	v := localapi.PeerFinding{Name: p.Name, PathKind: p.Path.Kind, Direct: []string{}}
	f := localapi.Finding{Subject: p.Name}
	switch {
	case p.Path.Kind == localapi.PathDirect && p.Silent:
		v.Why = "checks were answered at " + p.Path.Endpoint + ", and are not at this moment: another way is being looked for"
		return v, f
	case p.Path.Kind == localapi.PathDirect:
		v.Why = "checks are answered at " + p.Path.Endpoint
		if p.Path.RTTMillis > 0 {
			v.Why += fmt.Sprintf(" in %.1f ms", p.Path.RTTMillis)
		}
		return v, f
	case p.Path.Kind == localapi.PathRelay:
		f.Level = localapi.LevelNote
		v.Why = "packets go through relay " + p.Path.Relay
		if p.Path.Transport != "" {
			v.Why += " over " + transportName(p.Path.Transport)
		}
	case !p.Wanted:
		v.PathKind, v.Idle, v.Why = localapi.PathNone, true, "nobody talks to it: a path is looked for when something wants one"
		return v, f
	default:
		v.PathKind = localapi.PathNone
		v.Why = "there is no path"
		// A search that has just begun is no trouble, and a peer that says
		// nothing may simply be off.
		switch {
		case !p.Searching.IsZero() && c.Now.Sub(p.Searching) < pathPatience:
		case p.Offered:
			f.Level = localapi.LevelProblem
		default:
			f.Level = localapi.LevelWarning
		}
		switch {
		case len(c.Relays) == 0:
		case p.Relays == 0:
			v.Why += " (it names no relay that it can be reached by)"
		case !anySession(c.Relays):
			v.Why += " (no relay is connected here)"
		}
	}
	why, ways := whyNotDirect(c, p)
	v.Why += ": " + why
	v.Direct = append(v.Direct, ways...)
	if f.Level != "" {
		f.Text = v.Why
		if len(ways) > 0 {
			f.Advice = ways[0]
		}
	}
	return v, f
}

// whyNotDirect explains a pair without a direct path, and names what would
// make one, the easiest first.
func whyNotDirect(c checkup, p peerFacts) (why string, ways []string) {
	own := c.Own
	if !p.Offered {
		why = "no offer of " + p.Name + " has come, so its present addresses are not known"
		if !c.Service.Connected && !anySession(c.Relays) {
			return why + "; neither the service nor a relay is connected here to carry one", nil
		}
		return why, []string{fmt.Sprintf("see on %s whether nexd runs, and is connected to the service or a relay", p.Name)}
	}
	if blocked(own.NAT) || blocked(p.NAT) {
		return whyBlocked(own, p), waysBlocked(own, p)
	}
	if !p.Searching.IsZero() && c.Now.Sub(p.Searching) < pathPatience {
		return "the search for a direct path began " + c.Now.Sub(p.Searching).Round(time.Second).String() + " ago", nil
	}
	if shared, ok := samePublic(own.sideFacts, p.sideFacts); ok {
		why = fmt.Sprintf("both are behind the public address %s, and neither the local addresses nor the way through that NAT answered checks", shared)
		return why + tried(p), append([]string{
			"let the two reach each other by UDP where they are: local firewalls, isolation of wireless clients, or two networks without a route",
			"turn on hairpinning (NAT loopback) in the router",
		}, waysIPv6(own, p)...)
	}
	why = whyPair(own.NAT, p.NAT, p.Name) + tried(p)
	if !p.Searching.IsZero() && p.Next.After(c.Now) {
		why += "; the next attempt is in " + p.Next.Sub(c.Now).Round(time.Second).String()
	}
	return why, waysPair(own, p)
}

func blocked(kind string) bool { return kind == discovery.NATBlocked }

// known reports whether a kind of NAT was measured.
func known(kind string) bool {
	return kind == discovery.NATOpen || kind == discovery.NATEasy || kind == discovery.NATHard || kind == discovery.NATBlocked
}

// samePublic returns the IPv4 address that servers see both at.
func samePublic(a, b sideFacts) (netip.Addr, bool) {
	if a.NAT == discovery.NATOpen || b.NAT == discovery.NATOpen {
		return netip.Addr{}, false
	}
	for _, x := range a.Public {
		if x.Is4() && slices.Contains(b.Public, x) {
			return x, true
		}
	}
	return netip.Addr{}, false
}

// tried is what the checks say, behind a sentence.
func tried(p peerFacts) string {
	switch {
	case p.Tried == 0:
		return ""
	case p.Answered > 0:
		return fmt.Sprintf(" (%d of %d addresses answered checks before, and do not any more)", p.Answered, p.Tried)
	case p.Tried == 1:
		return " (one address was checked, and did not answer)"
	}
	return fmt.Sprintf(" (%d addresses were checked, none answered)", p.Tried)
}

func whyBlocked(own ownFacts, p peerFacts) string {
	here := "UDP is blocked here: no server answers over it"
	there := fmt.Sprintf("UDP is blocked at %s: it says that no server answers it", p.Name)
	switch {
	case blocked(own.NAT) && blocked(p.NAT):
		return fmt.Sprintf("UDP is blocked here and at %s: no server answers over it", p.Name)
	case blocked(own.NAT):
		return here
	}
	return there
}

func waysBlocked(own ownFacts, p peerFacts) (ways []string) {
	if blocked(own.NAT) {
		ways = append(ways, "let UDP out of this host's network, and the answers in")
	}
	if blocked(p.NAT) {
		ways = append(ways, fmt.Sprintf("let UDP out of %s's network, and the answers in", p.Name))
	}
	if len(ways) == 2 {
		ways = []string{ways[0] + "; and the same at " + p.Name}
	}
	return ways
}

// whyPair is what the two kinds of NAT mean together, after checks went both
// ways at the same time and none was answered.
func whyPair(own, peer, name string) string {
	const moves = "chooses a new port for each destination"
	switch {
	case own == discovery.NATHard && peer == discovery.NATHard:
		return "both NATs choose a new port for each destination (address-dependent, or address- and port-dependent mapping): no UDP path can be predicted"
	case own == discovery.NATHard && peer == discovery.NATEasy:
		return fmt.Sprintf("the NAT here %s, and that of %s, which keeps one port (endpoint-independent mapping), lets nothing in from a port it did not send to, as far as checks show", moves, name)
	case own == discovery.NATEasy && peer == discovery.NATHard:
		return fmt.Sprintf("the NAT of %s %s, and the NAT here, which keeps one port (endpoint-independent mapping), lets nothing in from a port it did not send to, as far as checks show", name, moves)
	case own == discovery.NATHard && peer == discovery.NATOpen:
		return fmt.Sprintf("%s has no NAT, but the checks from here, whose port it cannot know before (the NAT here %s), were not answered: a firewall there may drop them", name, moves)
	case own == discovery.NATOpen && peer == discovery.NATHard:
		return fmt.Sprintf("there is no NAT here, but no check of %s, whose port cannot be known before (its NAT %s), got through so far: a firewall here may drop them", name, moves)
	case known(own) && known(peer):
		return "no NAT stands against a direct path (both ends can be told the address and port of the other), but no check was answered: a firewall on the way may drop them"
	case known(own):
		return fmt.Sprintf("no check was answered, and the kind of NAT of %s is not known", name)
	case known(peer):
		return "no check was answered, and the kind of NAT here is not known"
	}
	return fmt.Sprintf("no check was answered, and the kinds of NAT here and of %s are not known", name)
}

// waysPair is what would make a path between two NATs, the easiest first.
func waysPair(own ownFacts, p peerFacts) (ways []string) {
	hard, easy, open := discovery.NATHard, discovery.NATEasy, discovery.NATOpen
	add := func(format string, args ...any) { ways = append(ways, fmt.Sprintf(format, args...)) }
	anyHard := own.NAT == hard || p.NAT == hard
	switch {
	case own.NAT == open && p.NAT != open:
		add("let UDP port %d in through the firewall here", own.Port)
	case p.NAT == open && own.NAT != open:
		add("let UDP in through the firewall of %s", p.Name)
	case known(own.NAT) && known(p.NAT) && !anyHard:
		add("let UDP out, and the answers in, through the firewalls here (port %d) and at %s", own.Port, p.Name)
	}
	if own.NAT != open && p.NAT != open {
		ways = append(ways, waysMapping(own, p)...)
	}
	if own.NAT == hard && p.NAT == easy || own.NAT == easy && p.NAT == hard {
		switch {
		case own.PunchHard && p.PunchHard:
		case own.PunchHard:
			add("start nexd at %s with --punch-hard-nat, too: ports are then guessed within a budget", p.Name)
		case p.PunchHard:
			add("start nexd here with --punch-hard-nat, as at %s: ports are then guessed within a budget", p.Name)
		default:
			add("start nexd here and at %s with --punch-hard-nat: ports are then guessed within a budget", p.Name)
		}
	}
	return append(ways, waysIPv6(own, p)...)
}

// waysMapping: a port that leads through one of the NATs is enough.
func waysMapping(own ownFacts, p peerFacts) (ways []string) {
	switch {
	case own.Static:
		ways = append(ways, fmt.Sprintf("see that the address given by --endpoint leads to UDP port %d here: %s does not get through", own.Port, p.Name))
	case own.Mapped:
		ways = append(ways, "see that the router here has the public address itself: behind a carrier-grade NAT the port it forwards leads nowhere")
	case !own.MappingAsk:
		ways = append(ways, "start nexd here with --port-mapping, where the router knows UPnP, NAT-PMP or PCP")
	}
	if !p.Mapped && !p.Static {
		ways = append(ways, "start nexd at "+p.Name+" with --port-mapping, where its router knows UPnP, NAT-PMP or PCP")
	}
	if !own.Static && !p.Static {
		ways = append(ways, "forward a UDP port of either router by hand, and start nexd behind it with --endpoint HOST:PORT")
	}
	return ways
}

func waysIPv6(own ownFacts, p peerFacts) []string {
	switch {
	case own.IPv6 && p.IPv6:
		return []string{fmt.Sprintf("let UDP in over IPv6, here (port %d) and at %s: both have addresses of it", own.Port, p.Name)}
	case own.IPv6:
		return []string{fmt.Sprintf("give %s IPv6: it is here already", p.Name)}
	case p.IPv6:
		return []string{fmt.Sprintf("have IPv6 here: %s has it already", p.Name)}
	}
	return []string{"have IPv6 here and at " + p.Name}
}
