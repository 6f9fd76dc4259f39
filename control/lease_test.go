package control

import (
	"testing"
	"time"

	"nexd/controlapi"
)

func TestEphemeral(t *testing.T) {
	dir := t.TempDir()
	short := func(c *Config) { c.Lease = 200 * time.Millisecond; c.FirstLease = time.Hour }
	w := start(t, dir, short)
	secret := w.regKey(controlapi.RegKeyRequest{Ephemeral: true})
	keeper := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "keeper"))
	ks := w.mustWatch(keeper, "")
	ks.expect(controlapi.EventSnapshot)
	waiting := w.join(wish(secret, "waiting")) // never opens a stream
	ks.expect(controlapi.EventDelta)
	d := w.join(wish(secret, "brief"))
	ks.expect(controlapi.EventDelta)
	s := w.mustWatch(d, "")
	s.expect(controlapi.EventSnapshot)
	begin := time.Now()
	s.stop()
	if e := ks.expect(controlapi.EventDelta); len(e.Delta.Remove) != 1 || e.Delta.Remove[0] != d.Device.ID {
		t.Errorf("in place of the end of the lease: %+v", e.Delta)
	}
	if took := time.Since(begin); took < 150*time.Millisecond {
		t.Errorf("deleted after %v, before its lease was over", took)
	}
	stays := w.join(wish(secret, "stays"))
	ks.expect(controlapi.EventDelta)
	w.mustWatch(stays, "").expect(controlapi.EventSnapshot)
	leaves := w.join(wish(secret, "leaves"))
	ks.expect(controlapi.EventDelta)
	if p, _ := w.send("DELETE", "/v1/self", leaves.Credential, nil, nil); p != nil {
		t.Error(p)
	}
	if e := ks.expect(controlapi.EventDelta); len(e.Delta.Remove) != 1 || e.Delta.Remove[0] != leaves.Device.ID {
		t.Errorf("in place of leaving: %+v", e.Delta)
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	// After a restart the lease of the connected one begins anew, and ends.
	w = start(t, dir, short)
	eventually(t, "the lease ends after the restart", func() bool {
		var list controlapi.DeviceList
		w.admin("GET", "/v1/devices", nil, &list)
		return len(list.Devices) == 2 && list.Devices[0].Name == "keeper" && list.Devices[1].ID == waiting.Device.ID
	})
}
