package discovery

import (
	"fmt"
	"time"

	"nexd/internal/logkey"
	"nexd/internal/relaypath"
)

// maxStory is how many events are kept of each peer.
const maxStory = 32

// Event is something that happened between this node and a peer.
type Event struct {
	At   time.Time
	Text string
}

// story is the last events of a peer, oldest first.
type story struct{ events []Event }

func (s *story) add(at time.Time, text string) {
	if len(s.events) == maxStory {
		copy(s.events, s.events[1:])
		s.events = s.events[:maxStory-1]
	}
	s.events = append(s.events, Event{at, text})
}

// tellPath logs and remembers where packets to p go now: one line for each change.
func (a *Agent) tellPath(p *peer, now time.Time, x action) {
	to, peer := x.route.path, p.key.Short()
	switch n := relaypath.Number(to); {
	case x.reason == "":
		if x.route.both {
			a.log.Info("peer is silent: packets take a relay as well", logkey.Peer, peer, logkey.Relay, a.relays[relaypath.Number(x.route.spare)].Name)
			p.story.add(now, "the path is silent: packets take both ways")
		}
	case !to.IsValid():
		a.log.Info("no path to peer", logkey.Peer, peer, logkey.Reason, x.reason)
		p.story.add(now, "no path: "+x.reason)
	case n != 0:
		name := a.relays[n].Name
		a.log.Info("relayed path to peer", logkey.Peer, peer, logkey.Relay, name, logkey.Reason, x.reason)
		p.story.add(now, fmt.Sprintf("relayed by %s: %s", name, x.reason))
	default:
		rtt := p.machine.best.rtt()
		a.log.Info("direct path to peer", logkey.Peer, peer, logkey.Addr, to, logkey.RTT, rtt, logkey.Reason, x.reason)
		p.story.add(now, fmt.Sprintf("direct at %s: %s", to, x.reason))
	}
}

func offerText(reply, relayed bool, candidates int) string {
	what, way := "offer", "the service"
	if reply {
		what = "answering offer"
	}
	if relayed {
		way = "a relay"
	}
	return fmt.Sprintf("%s of %d addresses sent through %s", what, candidates, way)
}

func gotOfferText(wantsReply bool, relay string, candidates int) string {
	what, way := "offer", "the service"
	if !wantsReply {
		what = "answering offer"
	}
	if relay != "" {
		way = "relay " + relay
	}
	return fmt.Sprintf("%s of %d addresses came through %s", what, candidates, way)
}
