package discovery

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nexd/internal/relaypath"
	"nexd/internal/stunwire"
	"nexd/key"
	"nexd/test/simnet"
)

var (
	randomPorts = simnet.NAT{Mapping: simnet.AddressAndPort, Filtering: simnet.AddressAndPort, Random: true}
	perAddress  = simnet.NAT{Mapping: simnet.Address, Filtering: simnet.AddressAndPort, Random: true}
)

// TestCountingNATs: the ports of a NAT that counts are foreseen, in the first round.
func TestCountingNATs(t *testing.T) {
	for _, x := range []struct {
		name string
		b    simnet.NAT
	}{{"port restricted", portRestricted}, {"counting", symmetric}, {"firewall", firewall}} {
		for _, swap := range []bool{false, true} {
			t.Run(x.name, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					a, b := w.punching("203.0.113.1", symmetric), w.punching("198.18.0.2", x.b)
					w.setRelay(1, true, true)
					time.Sleep(2 * time.Second)
					from, to := a, b
					if swap {
						from, to = b, a
					}
					from.agent.Want(to.pub)
					stop := talkOn(a.simNode, b.simNode)
					took := becomesDirect(a.simNode, b.simNode, 10*time.Second)
					if took == 0 || took > 2*time.Second {
						t.Errorf("direct after %s: %+v", took, a.agent.Peer(b.pub))
					}
					o, _ := a.agent.Outlook(t.Context())
					r, _ := a.agent.Report(t.Context(), b.pub)
					if o.Step != 1 || !r.PunchHard {
						t.Errorf("step %d, the peer allows it: %t", o.Step, r.PunchHard)
					}
					time.Sleep(20 * time.Second)
					stop()
					if gap := max(a.resetGap(), b.resetGap()); gap > 200*time.Millisecond {
						t.Errorf("silence of %s", gap)
					}
					if n := a.host.Sockets() + b.host.Sockets(); n > 0 {
						t.Errorf("%d sockets are open", n)
					}
				})
			})
		}
	}
}

// TestGuessing: random ports of one side are found in a round or three, and the
// path is one like any other: it survives, dies with the NAT's mapping, and is
// found again.
func TestGuessing(t *testing.T) {
	for _, x := range []struct {
		name string
		a, b simnet.NAT
	}{
		{"random × port restricted", randomPorts, portRestricted},
		{"random × firewall", randomPorts, firewall},
		{"by address × port restricted", perAddress, portRestricted},
	} {
		for _, swap := range []bool{false, true} {
			t.Run(x.name, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					a, b := w.punching("203.0.113.1", x.a), w.punching("198.18.0.2", x.b)
					w.setRelay(1, true, true)
					time.Sleep(2 * time.Second)
					from, to := a, b
					if swap {
						from, to = b, a
					}
					from.agent.Want(to.pub)
					stop := talkOn(a.simNode, b.simNode)
					took := becomesDirect(a.simNode, b.simNode, 40*time.Minute)
					if took == 0 {
						stop()
						t.Fatalf("not found: %+v, %+v", a.agent.Stats(), b.agent.Stats())
					}
					t.Logf("direct after %s, %d checks sent to find it", took, b.agent.Stats().Checks)
					if n := a.host.Sockets(); n != 1 {
						t.Errorf("%d sockets are open", n)
					}
					time.Sleep(2 * time.Minute)
					if got := a.agent.Peer(b.pub); got.State != Direct {
						t.Errorf("the path did not last: %+v", got)
					}
					if gap := max(a.resetGap(), b.resetGap()); gap > 200*time.Millisecond {
						t.Errorf("silence of %s", gap)
					}

					a.host.Site().Rebind()
					time.Sleep(10 * time.Second)
					if got := a.agent.Peer(b.pub); relaypath.Number(got.Addr) != 1 {
						t.Errorf("after a rebind: %+v", got)
					}
					time.Sleep(time.Minute)
					if adopted, released, _, _ := a.count(); released != adopted || a.host.Sockets() > 0 {
						t.Errorf("%d sockets adopted, %d released, %d open", adopted, released, a.host.Sockets())
					}
					if took := becomesDirect(a.simNode, b.simNode, 60*time.Minute); took == 0 {
						t.Errorf("not found again: %+v", a.agent.Stats())
					} else {
						t.Logf("direct again after %s", took)
					}
					stop()
					if gap := max(a.resetGap(), b.resetGap()); gap > time.Second {
						t.Errorf("silence of %s", gap)
					}
				})
			})
		}
	}
}

// TestBudgetOfGuesses: nothing is found, as nobody answers; what is sent stays
// within the budget, and comes again ten minutes later.
func TestBudgetOfGuesses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.punching("203.0.113.1", randomPorts), w.punching("203.0.113.2", portRestricted)
		w.setRelay(1, true, true)
		// The guesses do not pass: a's site filters by what nobody can know.
		var mu sync.Mutex
		var guesses, firsts []time.Time
		w.net.Tap(func(p simnet.Packet) {
			mu.Lock()
			defer mu.Unlock()
			m, err := stunwire.Parse(p.Data)
			if err != nil || m.Class != stunwire.Request || !m.HasIntegrity() {
				return
			}
			switch now := time.Now(); {
			case p.To.Addr() == netip.MustParseAddr("203.0.113.1"):
				guesses = append(guesses, now)
			case p.From.Addr() == netip.MustParseAddr("203.0.113.1"):
				firsts = append(firsts, now)
			}
		})
		w.net.Filter(func(p simnet.Packet) bool {
			return p.To.Addr() != netip.MustParseAddr("203.0.113.1") || p.From.Port() == 3478
		})
		time.Sleep(2 * time.Second)
		stop := talkOn(a.simNode, b.simNode)
		time.Sleep(33 * time.Minute)
		stop()
		time.Sleep(wantedFor + holesFor + time.Second) // a round may have begun just now, or begin yet
		mu.Lock()
		defer mu.Unlock()
		most := 0
		for i, at := range guesses {
			n := 0
			for _, x := range guesses[i:] {
				if x.Sub(at) < time.Second {
					n++
				}
			}
			most = max(most, n)
		}
		if most > 101+burstRate {
			t.Errorf("%d checks in a second", most)
		}
		rounds := int(a.agent.Stats().HardRounds)
		if rounds < 2 || rounds > 4 || b.agent.Stats().HardRounds != uint64(rounds) {
			t.Errorf("%d and %d rounds in 35 minutes", rounds, b.agent.Stats().HardRounds)
		}
		ordinary := 16 * len(burst) * 16 // rounds, passes, candidates: more than there are
		full := rounds - 1               // the last one is cut short where nobody wants the peer any more
		if len(guesses) < full*maxGuesses || len(guesses) > rounds*maxGuesses+ordinary {
			t.Errorf("%d checks went to the hard side in %d rounds", len(guesses), rounds)
		}
		if len(firsts) < full*maxHoles || len(firsts) > rounds*maxHoles*maxOutside+ordinary {
			t.Errorf("%d checks came from the hard side in %d rounds", len(firsts), rounds)
		}
		adopted, _, opened, simultaneous := a.count()
		if adopted != 0 || simultaneous > maxHoles+1 || // the gauge's
			a.host.Sockets() > 0 || opened > rounds*maxHoles+2*rounds+40 {
			t.Errorf("adopted %d, opened %d, at most %d, open now %d", adopted, opened, simultaneous, a.host.Sockets())
		}
		t.Logf("%d rounds, %d guesses, at most %d in a second, %d checks of the other side", rounds, len(guesses), most, len(firsts))
	})
}

// TestNotAllowed: with the option on one side or none, and between two hard
// NATs, nothing is guessed or opened for guesses.
func TestNotAllowed(t *testing.T) {
	for name, build := range map[string]func(w *world) (a, b *simNode){
		"only the hard side": func(w *world) (a, b *simNode) {
			return w.punching("203.0.113.1", randomPorts).simNode, w.at("203.0.113.2", portRestricted)
		},
		"only the easy side": func(w *world) (a, b *simNode) {
			return w.at("203.0.113.1", randomPorts), w.punching("203.0.113.2", portRestricted).simNode
		},
		"neither": func(w *world) (a, b *simNode) {
			return w.at("203.0.113.1", symmetric), w.at("203.0.113.2", portRestricted)
		},
		"counting, only the hard side": func(w *world) (a, b *simNode) {
			return w.punching("203.0.113.1", symmetric).simNode, w.at("203.0.113.2", portRestricted)
		},
		"counting, only the easy side": func(w *world) (a, b *simNode) {
			return w.at("203.0.113.1", symmetric), w.punching("203.0.113.2", portRestricted).simNode
		},
		"both hard": func(w *world) (a, b *simNode) {
			return w.punching("203.0.113.1", randomPorts).simNode, w.punching("203.0.113.2", randomPorts).simNode
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a, b := build(w)
				w.setRelay(1, true, true)
				time.Sleep(2 * time.Second)
				converse(a, b, 15*time.Minute)
				for _, n := range []*simNode{a, b} {
					if st := n.agent.Stats(); st.HardRounds > 0 || st.Checks > 1500 {
						t.Errorf("%+v", st)
					}
					if n.punch != nil {
						if _, _, opened, most := n.punch.count(); most > 1 || opened > 1 && name != "both hard" {
							t.Errorf("%d sockets opened, %d at a time", opened, most)
						}
					}
				}
				if got := a.agent.Peer(b.pub); relaypath.Number(got.Addr) != 1 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestFewSockets: what the system grants is used, if it is worth it.
func TestFewSockets(t *testing.T) {
	for _, limit := range []int{leastHoles - 1, leastHoles + 1} {
		inWorld(t, func(t *testing.T, w *world) {
			a, b := w.punching("203.0.113.1", randomPorts), w.punching("203.0.113.2", portRestricted)
			a.limit = limit
			w.setRelay(1, true, true)
			time.Sleep(2 * time.Second)
			stop := talkOn(a.simNode, b.simNode)
			began := time.Now()
			for a.agent.Stats().HardRounds == 0 && time.Since(began) < time.Minute {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(time.Second)
			if n := a.host.Sockets(); limit < leastHoles && n > 0 || limit >= leastHoles && n != limit && a.agent.Peer(b.pub).State != Direct {
				t.Errorf("%d sockets open of %d", n, limit)
			}
			stop()
		})
	}
}

// TestForgedAnswers: an attacker who knows all addresses floods both sides of a
// round; no path comes of it, and the right one is found all the same.
func TestForgedAnswers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.punching("203.0.113.1", randomPorts), w.punching("203.0.113.2", portRestricted)
		w.setRelay(1, true, true)
		hard, soft := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
		evil := key.NewPrivate()
		s, err := newSecrets(evil, evil.Public(), b.pub)
		if err != nil {
			t.Fatal(err)
		}
		var forged atomic.Int64
		var seen sync.Map // of checks: what is injected passes here, too
		answer := func(p simnet.Packet) {
			m, err := stunwire.Parse(p.Data)
			if err != nil || m.Class != stunwire.Request || !m.HasIntegrity() {
				return
			}
			if _, twice := seen.LoadOrStore(m.ID, true); twice {
				return
			}
			forged.Add(1)
			for _, fake := range [][]byte{
				stunwire.AppendCheckReply(nil, m.ID, p.From, &s.check), // a wrong key
				stunwire.AppendSuccess(nil, m.ID, p.From, true),        // no proof at all
				p.Data, // its own check
			} {
				go w.net.Inject(simnet.Packet{From: p.To, To: p.From, Data: fake})
			}
		}
		w.net.Tap(func(p simnet.Packet) {
			if p.From.Addr() == hard && p.To.Addr() == soft || p.From.Addr() == soft && p.To.Addr() == hard {
				answer(p)
			}
		})
		time.Sleep(2 * time.Second)
		stop := talkOn(a.simNode, b.simNode)
		took := becomesDirect(a.simNode, b.simNode, 40*time.Minute)
		stop()
		if took == 0 {
			t.Fatalf("not found: %+v, %+v", a.agent.Stats(), b.agent.Stats())
		}
		if forged.Load() == 0 || a.agent.Stats().Unverified == 0 {
			t.Errorf("%d forged, %+v", forged.Load(), a.agent.Stats())
		}
		if adopted, _, _, _ := a.count(); adopted != 1 {
			t.Errorf("%d sockets adopted", adopted)
		}
	})
}

// TestAdoptFails: the socket found cannot be used. The relay stays.
func TestAdoptFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.punching("203.0.113.1", randomPorts), w.punching("203.0.113.2", portRestricted)
		a.refuse = true
		w.setRelay(1, true, true)
		time.Sleep(2 * time.Second)
		stop := talkOn(a.simNode, b.simNode)
		time.Sleep(30 * time.Second)
		if got := a.agent.Peer(b.pub); got.State == Direct || a.host.Sockets() > 0 {
			t.Errorf("%+v, %d sockets", got, a.host.Sockets())
		}
		stop()
	})
}

// TestLostAnswer: the answer to a proposal gets lost, and there is no relay. A
// second proposal finds the round already begun, and both sides are in it.
func TestLostAnswer(t *testing.T) {
	for lost := range 3 {
		inWorld(t, func(t *testing.T, w *world) {
			a, b := w.punching("203.0.113.1", randomPorts), w.punching("203.0.113.2", portRestricted)
			b.mu.Lock()
			b.lose = lost
			b.mu.Unlock()
			time.Sleep(2 * time.Second)
			stop := talkOn(a.simNode, b.simNode)
			for began := time.Now(); b.agent.Stats().HardRounds == 0 && time.Since(began) < time.Minute; {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(1500 * time.Millisecond)
			if n := a.agent.Stats().HardRounds; (n == 1) != (lost < 2) {
				t.Errorf("%d answers lost: the other side is in %d rounds", lost, n)
			}
			stop()
		})
	}
}

// TestPeerLeavesDuringRound: all sockets close with the member, and with the agent.
func TestPeerLeavesDuringRound(t *testing.T) {
	for _, how := range []string{"peer", "agent"} {
		inWorld(t, func(t *testing.T, w *world) {
			a, b := w.punching("203.0.113.1", randomPorts), w.punching("203.0.113.2", portRestricted)
			w.setRelay(1, true, true)
			w.net.Filter(func(p simnet.Packet) bool {
				return p.To.Addr() != netip.MustParseAddr("203.0.113.1") || p.From.Port() == 3478
			})
			time.Sleep(2 * time.Second)
			go converse(a.simNode, b.simNode, 20*time.Second)
			for began := time.Now(); a.host.Sockets() < maxHoles && time.Since(began) < 20*time.Second; {
				time.Sleep(10 * time.Millisecond)
			}
			if n := a.host.Sockets(); n != maxHoles {
				t.Errorf("%d sockets", n)
			}
			if how == "peer" {
				a.agent.SetPeers(nil)
			} else {
				a.stop()
			}
			time.Sleep(time.Second)
			if n := a.host.Sockets(); n > 0 {
				t.Errorf("%s left: %d sockets are open", how, n)
			}
			time.Sleep(20 * time.Second)
		})
	}
}
