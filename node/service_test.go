package node

import (
	"testing"

	"nexd/localapi"
)

// The data plane outlives the service: it goes on, and it starts again from
// what is on disk.
func TestServiceGoesAndComesBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.talk()

	held := connect(t, p.tcp) // lives through it
	exchange(t, held, "before")
	p.down()
	for _, m := range []*member{p.server, p.client} {
		m.await("offline and ready", isOffline)
	}
	exchange(t, held, "while it is away")
	p.talk()
	held.Close()

	for _, m := range []*member{p.client, p.server} {
		m.stop()
		m.cfg.RegKey = "" // needed once
		m.start()
	}
	for _, m := range []*member{p.server, p.client} {
		m.await("offline and ready after a restart", isOffline)
	}
	p.talk()

	p.up()
	for _, m := range []*member{p.server, p.client} {
		m.n.client.Reconnect() // rather than wait for the next try
		m.await("running again", isRunning)
	}
	p.talk()
}

// A first start waits for the service, says so, and joins when it is there.
func TestFirstStartWaitsForTheService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.member("early", withRules(ingress(t, "tcp:80:127.0.0.1:8080")))
	w.down()
	m.start()
	st := m.await("joining with a reason", func(st localapi.Status) bool {
		return st.State == localapi.StateJoining && !st.Ready && len(st.Reasons) > 0 && st.Reasons[0] != "the device has not joined the mesh"
	})
	if len(st.Rules) != 1 || st.Rules[0].State != localapi.RuleFailed {
		t.Errorf("rules of a node that has not joined: %+v", st.Rules)
	}
	if _, err := m.api.ChangeRules(t.Context(), specs(ingress(t, "tcp:81:127.0.0.1:8081")), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.api.Ping(t.Context(), "early", 0); err == nil {
		t.Error("ping without a mesh succeeds")
	}
	w.up()
	st = m.await("running", isRunning)
	if len(st.Rules) != 2 {
		t.Errorf("rules %+v, want the one added while waiting too", st.Rules)
	}
}

// A node that is told to stop while it waits for its first join just ends.
func TestStopWhileJoining(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.member("early")
	w.down()
	m.start()
	m.await("joining", func(st localapi.Status) bool { return st.State == localapi.StateJoining })
	m.stop()
}
