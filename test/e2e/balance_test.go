//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"nexd/test/cluster"
)

// TestBalance: connections go round over the destinations; one that is gone is
// skipped without a connection lost, said to be degraded, and used again when
// it is back. The same between destinations of one host and between devices.
func TestBalance(t *testing.T) {
	p := newPair(t, nil, nil)
	a := listen(t, p.server, "tcp", "127.0.0.1:9001", echoAs("a"))
	listen(t, p.server, "tcp", "127.0.0.1:9002", echoAs("b"))
	const ruleA, ruleB = "tcp:8000:127.0.0.1:9001", "tcp:8000:127.0.0.1:9002"
	add(p.ingress, "ingress "+ruleA, "ingress "+ruleB)
	add(p.egress, "egress tcp:7000:server:8000")
	untilSays(t, "the first", p.client, "tcp", "127.0.0.1:7000", "a hello")
	untilSays(t, "the second", p.client, "tcp", "127.0.0.1:7000", "b hello")
	// count makes connections and returns how many each destination answered.
	count := func(port, n int) map[string]int {
		t.Helper()
		by := map[string]int{}
		for i := range n {
			got, err := sayOnce(p.client, "tcp", fmt.Sprintf("127.0.0.1:%d", port), "hello")
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			name, _, _ := strings.Cut(got, " ")
			by[name]++
		}
		return by
	}
	if by := count(7000, 20); by["a"] != 10 || by["b"] != 10 {
		t.Errorf("both there: %v", by)
	}
	kept := dial(t, p.client, "tcp", "127.0.0.1:7000") // goes to a or b
	if _, err := say(kept, "hello"); err != nil {
		t.Fatal(err)
	}

	a.stop()
	if by := count(7000, 20); by["b"] != 20 {
		t.Errorf("a is gone: %v", by)
	}
	untilRule(t, p.ingress, ruleA, "degraded", "refused")
	untilRule(t, p.ingress, ruleB, "listening", "")
	if st, err := p.ingress.Status(); err != nil || !st.Ready {
		t.Errorf("with one destination gone: ready %v %v, %v", st.Ready, st.Reasons, err)
	}

	listen(t, p.server, "tcp", "127.0.0.1:9001", echoAs("a"))
	untilSays(t, "a is back", p.client, "tcp", "127.0.0.1:7000", "a hello")
	untilRule(t, p.ingress, ruleA, "listening", "")
	if by := count(7000, 20); by["a"] != 10 || by["b"] != 10 {
		t.Errorf("both back: %v", by)
	}

	// Over two devices, of which one is killed: nobody answers at its address.
	other := p.Node("other")
	listen(t, other, "tcp", "127.0.0.1:9001", echoAs("c"))
	third := p.Proxy(other, "--reg-key", p.svc.RegKey(), "--ingress", "tcp:8000:127.0.0.1:9001").Ready()
	const toServer, toOther = "tcp:7001:server:8000,dial-timeout=3s", "tcp:7001:other:8000,dial-timeout=3s"
	add(p.egress, "egress "+toServer, "egress "+toOther)
	untilSays(t, "the other device", p.client, "tcp", "127.0.0.1:7001", "c hello")
	if by := count(7001, 10); by["c"] != 5 {
		t.Errorf("both devices: %v", by)
	}
	third.Kill()
	begun := time.Now()
	if by := count(7001, 10); by["a"]+by["b"] != 10 {
		t.Errorf("the other device is gone: %v", by)
	}
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("ten connections past a dead device took %s: it was not skipped", took)
	}
	untilRule(t, p.egress, toOther, "degraded", "")
	third.Start()
	untilSays(t, "the device is back", p.client, "tcp", "127.0.0.1:7001", "c hello")
	untilRule(t, p.egress, toOther, "listening", "")
	cluster.Until(t, 10*time.Second, "both are ready", func() error {
		st, err := p.egress.Status()
		if err == nil && !st.Ready {
			err = fmt.Errorf("%v", st.Reasons)
		}
		return err
	})
}
