package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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

// add remembers an event; one that is told late stands where it belongs.
func (s *story) add(at time.Time, text string) {
	if len(s.events) == maxStory {
		copy(s.events, s.events[1:])
		s.events = s.events[:maxStory-1]
	}
	i := len(s.events)
	for i > 0 && s.events[i-1].At.After(at) {
		i--
	}
	s.events = slices.Insert(s.events, i, Event{at, text})
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

// maxMTU is the largest packet that is looked for.
func (a *Agent) maxMTU() int {
	if a.config.OnMTU == nil || a.config.MaxMTU <= baseMTU {
		return 0
	}
	return min(a.config.MaxMTU, topMTU)
}

// setMTU tells how large packets to p may be: one line for each change but the
// step back that each new path begins with.
func (a *Agent) setMTU(p *peer, now time.Time, x action) {
	before := p.mtu
	p.mtu = x.mtu
	switch {
	case before == 0:
	case x.mtu > before:
		a.counters.mtuRaised.Add(1)
	default:
		a.counters.mtuLowered.Add(1)
	}
	a.config.OnMTU(p.key, x.mtu)
	level := slog.LevelInfo
	if before == 0 || x.reason == otherPath || x.reason == noPath {
		level = slog.LevelDebug
	}
	a.log.Log(context.Background(), level, "largest packet to peer", logkey.Peer, p.key.Short(), logMTU, x.mtu, logkey.Reason, x.reason)
	p.story.add(now, fmt.Sprintf("packets of up to %d bytes: %s", x.mtu, x.reason))
}

// logMTU is the key of a size of packets in bytes.
const logMTU = "mtu"

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
