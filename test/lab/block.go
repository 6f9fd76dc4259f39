//go:build linux

package lab

import "nexd/test/netns"

// block is one direction between two sites in which nothing passes.
type block struct{ from, to *Site }

// Block lets nothing pass between two sites, silently; what goes over a third
// one still does.
func (l *Lab) Block(a, b *Site) {
	l.t.Helper()
	l.BlockOneWay(a, b)
	l.BlockOneWay(b, a)
}

// BlockOneWay lets nothing pass from one site to another; the other direction
// is as before.
func (l *Lab) BlockOneWay(from, to *Site) {
	l.t.Helper()
	l.blocks = append(l.blocks, block{from, to})
	l.loadBlocks(from, to)
}

// Unblock ends what Block and BlockOneWay did between two sites.
func (l *Lab) Unblock(a, b *Site) {
	l.t.Helper()
	var rest []block
	for _, x := range l.blocks {
		if x != (block{a, b}) && x != (block{b, a}) {
			rest = append(rest, x)
		}
	}
	l.blocks = rest
	l.loadBlocks(a, b)
}

// loadBlocks loads the blocks at the router where the ways of a and b meet.
func (l *Lab) loadBlocks(a, b *Site) {
	l.t.Helper()
	at, _, _ := l.meet(a, b)
	var r script
	r.replace("inet", "block")
	r.chain("filter", "forward", "-10")
	for _, x := range l.blocks {
		if router, in, out := l.meet(x.from, x.to); router == at {
			r.add("iifname %q oifname %q drop", in, out)
		}
	}
	r.end()
	r.end()
	at.NFT(r.String())
}

// meet returns the innermost router both sites are behind, and its interfaces
// towards them: the core, or a carrier they share.
func (l *Lab) meet(a, b *Site) (at *netns.Host, towardsA, towardsB string) {
	l.t.Helper()
	for x := a; x != nil; x = x.carrier {
		for y := b; y != nil; y = y.carrier {
			if x.up == y.up && x != y {
				return x.up, x.upPort, y.upPort
			}
		}
	}
	l.t.Fatalf("sites %s and %s: one is behind the other", a.Name, b.Name)
	return nil, "", ""
}
