package proxy

import (
	"net/netip"
	"testing"

	"nexd/rules"
)

// A datagram that was taken just before the end may come to the table after it:
// no flow begins that nobody would wait for.
func TestNoFlowBeginsAtTheEnd(t *testing.T) {
	for name, end := range map[string]func(*flowTable){
		"drained": func(t *flowTable) { t.drain(t.g.e.life) },
		"closed":  (*flowTable).close,
	} {
		t.Run(name, func(t *testing.T) {
			r := oneRule(t, rules.Ingress, "udp:1:127.0.0.1:9")
			g := newGroup(r.e, r.Key())
			g.rules.Store(&[]*rule{r})
			end(&g.flows)
			f := g.flows.create(flowKey{from: netip.MustParseAddrPort("192.0.2.1:1")}, 1)
			if f != nil {
				t.Error("a flow begins")
				f.end()
			}
			if s := r.status(); s.Active != 0 || s.Total != 0 || g.flows.flows != nil {
				t.Errorf("%d flows, %d ever; table %v", s.Active, s.Total, g.flows.flows)
			}
			r.e.working.Wait()
			r.e.cutAll()
		})
	}
}
