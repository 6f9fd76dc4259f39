package localapi

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// whole fills in what every status has: the schema, and lists that are never null.
func whole(st Status) Status {
	st.Schema = Schema
	st.Reasons = list(st.Reasons)
	st.Device.Addresses = list(st.Device.Addresses)
	st.NAT.Mapped = list(st.NAT.Mapped)
	st.Relays = list(st.Relays)
	st.Rules = list(st.Rules)
	st.Peers = append([]PeerStatus{}, st.Peers...)
	for i := range st.Peers {
		st.Peers[i].Addresses = list(st.Peers[i].Addresses)
	}
	return st
}

// whole puts the candidates in order and cuts what is too long: a peer may have
// announced anything.
func (t Trace) whole() Trace {
	t.Schema = Schema
	t.Peer.Addresses = list(t.Peer.Addresses)
	t.PeerRelays = first(MaxRelays, t.PeerRelays)
	t.OwnCandidates = first(MaxCandidates, t.OwnCandidates)
	t.Candidates = slices.SortedStableFunc(slices.Values(t.Candidates), func(a, b Candidate) int {
		return cmp.Compare(candidateRank(a.State), candidateRank(b.State))
	})
	t.Omitted += max(len(t.Candidates)-MaxCandidates, 0)
	t.Candidates = first(MaxCandidates, t.Candidates)
	// The newest events are at the end.
	t.History = slices.Clone(t.History[max(len(t.History)-MaxHistory, 0):])
	for i := range t.History {
		t.History[i].Text = short(t.History[i].Text)
	}
	t.History = list(t.History)
	t.Path, t.Spare = t.Path.whole(), t.Spare.whole()
	return t
}

func candidateRank(state string) int {
	return -slices.Index([]string{CandidateUntried, CandidateSilent, CandidateWaiting, CandidateAnswered, CandidatePath}, state)
}

// whole names the kind of a path that is none.
func (p PathStatus) whole() PathStatus {
	if p.Kind == "" {
		p.Kind = PathNone
	}
	return p
}

func (n Netcheck) whole() Netcheck {
	n.Schema = Schema
	n.NAT.Explanation = short(n.NAT.Explanation)
	n.STUN = first(MaxServers, n.STUN)
	n.OwnCandidates = first(MaxCandidates, n.OwnCandidates)
	n.Relays = first(MaxRelays, n.Relays)
	for i := range n.Relays {
		r := &n.Relays[i]
		r.UDP.Error, r.TLS.Error = short(r.UDP.Error), short(r.TLS.Error)
	}
	n.PortMapping.Error, n.Service.Error = short(n.PortMapping.Error), short(n.Service.Error)
	return n
}

// whole works out OK before anything is cut, problems first.
func (d Doctor) whole() Doctor {
	d.Schema = Schema
	d.OK = !slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.Level == LevelProblem })
	d.Findings = slices.SortedStableFunc(slices.Values(d.Findings), func(a, b Finding) int {
		return cmp.Compare(levelRank(a.Level), levelRank(b.Level))
	})
	d.Findings = first(MaxFindings, d.Findings)
	for i := range d.Findings {
		f := &d.Findings[i]
		f.Text, f.Advice = short(f.Text), short(f.Advice)
	}
	d.Omitted += max(len(d.Peers)-MaxDoctorPeers, 0)
	d.Peers = first(MaxDoctorPeers, d.Peers)
	for i := range d.Peers {
		p := &d.Peers[i]
		p.Why, p.Direct = short(p.Why), first(MaxWays, p.Direct)
		for j := range p.Direct {
			p.Direct[j] = short(p.Direct[j])
		}
	}
	return d
}

func levelRank(level string) int {
	return -slices.Index([]string{LevelOK, LevelNote, LevelWarning, LevelProblem}, level)
}

// list is s, and never nil.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// first returns a copy of the first n of s at most, never nil.
func first[T any](n int, s []T) []T {
	return append([]T{}, s[:min(len(s), n)]...)
}

// short cuts a sentence at MaxText bytes, between characters.
func short(s string) string {
	if len(s) <= MaxText {
		return s
	}
	const mark = "…"
	cut := MaxText - len(mark)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimRight(s[:cut], " ") + mark
}
