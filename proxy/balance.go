package proxy

import (
	"slices"
	"time"
)

// candidates returns the rules that may take the next connection, in the order
// to try them: round robin, those whose destination is put off last, the one
// due soonest first among them.
func (g *group) candidates(allowed func(*rule) bool) []*rule {
	all := *g.rules.Load()
	turn := int((g.turn.Add(1) - 1) % uint32(len(all))) // not negative where int has 32 bits
	now := time.Now()
	type put struct {
		r  *rule
		at time.Time
	}
	var (
		order = make([]*rule, 0, len(all))
		later []put
	)
	for i := range all {
		r := all[(turn+i)%len(all)]
		r.mu.Lock()
		usable, at := r.reachable, r.retryAt
		r.mu.Unlock()
		switch {
		case !usable || !allowed(r):
		case at.After(now):
			later = append(later, put{r, at})
		default:
			order = append(order, r)
		}
	}
	slices.SortStableFunc(later, func(a, b put) int { return a.at.Compare(b.at) })
	for _, p := range later {
		order = append(order, p.r)
	}
	return order
}
