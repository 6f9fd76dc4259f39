package proxy

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"

	"nexd/rules"
)

// checksAtOnce bounds the rules that Check tries at a time.
const checksAtOnce = 32

// Check binds every listener of the rules and dials every destination once,
// keeps nothing open, and returns what it found in the order of the rules. It
// is for an engine that does not run these rules: their ports would be in use.
// A rule without a mesh address to listen on or dial from fails that part.
func (e *Engine) Check(ctx context.Context, rs []rules.Rule) []CheckResult {
	results := make([]CheckResult, len(rs))
	e.checkListeners(rs, results)
	var wg sync.WaitGroup
	slots := make(chan struct{}, checksAtOnce)
	for i, r := range rs {
		results[i].Rule = r
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			e.checkDestination(ctx, r, &results[i])
		})
	}
	wg.Wait()
	return results
}

// checkListeners opens the sockets of all rules together, so that rules in each
// other's way are found, and closes them.
func (e *Engine) checkListeners(rs []rules.Rule, results []CheckResult) {
	type outcome struct {
		at  []netip.AddrPort
		err error
	}
	seen := map[rules.ListenKey]outcome{}
	var opened []*group
	for i, r := range rs {
		key := r.Key()
		o, ok := seen[key]
		if !ok {
			g := newGroup(e, key)
			g.rules.Store(&[]*rule{newRule(e, r)})
			opened = append(opened, g)
			o.err = g.listen()
			for _, s := range g.sockets {
				o.at = append(o.at, netip.AddrPortFrom(s.addr, key.Port))
			}
			slices.SortFunc(o.at, netip.AddrPort.Compare)
			seen[key] = o
		}
		results[i].Listening, results[i].Listen = o.at, o.err
	}
	for _, g := range opened {
		g.remove()
		g.end()
		for _, r := range *g.rules.Load() {
			r.cut()
		}
	}
}

func (e *Engine) checkDestination(ctx context.Context, r rules.Rule, result *CheckResult) {
	back := e.mesh
	if r.Direction == rules.Ingress {
		back = e.host
	}
	limit := r.Options.DialTimeout
	if limit == 0 {
		limit = defaultDial
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	addrs, err := back.resolve(ctx, r.Target)
	if err != nil {
		result.Dial = err
		return
	}
	if r.Target.Host != "" {
		result.Resolved = addrs
	}
	var c net.Conn
	if r.Protocol == rules.UDP {
		c, err = back.dialPacket(ctx, r.Target, 0)
	} else {
		c, err = back.dialStream(ctx, r.Target)
	}
	if err != nil {
		result.Dial = err
		return
	}
	_ = c.Close()
}
