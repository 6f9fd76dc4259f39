package control

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

func TestJoin(t *testing.T) {
	w := start(t, t.TempDir())
	secret := w.regKey(controlapi.RegKeyRequest{Tags: []string{"web"}})
	d := w.join(wish(secret, "db"))
	dev := d.Device
	if dev.Name != "db" || dev.PublicKey != d.private.Public() || len(dev.Addresses) != 2 || dev.Addresses[0] != netip.MustParseAddr("100.64.0.1") ||
		!d.Network.CIDRs[1].Contains(dev.Addresses[1]) || dev.Tags[0] != "web" || dev.Ephemeral || d.Network.Domain != "nexd.internal" {
		t.Errorf("joined as %+v in %+v", dev, d.Network)
	}
	if !d.Network.CIDRs[1].Addr().IsPrivate() || d.Network.CIDRs[1].Bits() != 64 {
		t.Errorf("IPv6 range %s is no ULA /64", d.Network.CIDRs[1])
	}
	again, p := w.tryJoin(d.private, wish(secret, "other"))
	if p != nil || again.Device.ID != dev.ID || again.Device.Name != "db" || again.Device.Addresses[0] != dev.Addresses[0] {
		t.Errorf("joined again as %+v, %v", again.Device, p)
	}
	_, p = w.watch(d, "")
	w.refused(p, controlapi.CodeUnauthorized)
	w.mustWatch(again, "").expect(controlapi.EventSnapshot)

	e := w.join(controlapi.JoinRequest{RegKey: secret, Name: "e", Ephemeral: true})
	if !e.Device.Ephemeral {
		t.Error("an ephemeral request made a lasting device")
	}
	byKey := w.join(wish(w.regKey(controlapi.RegKeyRequest{Ephemeral: true}), "f"))
	if !byKey.Device.Ephemeral {
		t.Error("an ephemeral key made a lasting device")
	}
}

func TestJoinRefusals(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.NetworkCIDR = netip.MustParsePrefix("10.7.0.0/28") })
	secret := w.regKey(controlapi.RegKeyRequest{})
	held := w.join(controlapi.JoinRequest{RegKey: secret, Name: "held", RequestIP: netip.MustParseAddr("10.7.0.9")})
	once := w.regKey(controlapi.RegKeyRequest{SingleUse: true})
	user := w.join(wish(once, "user"))
	if _, p := w.tryJoin(user.private, wish(once, "user")); p != nil {
		t.Errorf("its single-use key a second time: %v", p)
	}
	reclaim := w.regKey(controlapi.RegKeyRequest{Reclaim: true})
	w.mustWatch(held, "").expect(controlapi.EventSnapshot)
	var expiring controlapi.RegKeyCreated
	w.admin("POST", "/v1/reg-keys", controlapi.RegKeyRequest{ExpiresIn: 1}, &expiring)
	var deleted controlapi.RegKeyCreated
	w.admin("POST", "/v1/reg-keys", controlapi.RegKeyRequest{}, &deleted)
	w.admin("DELETE", "/v1/reg-keys/"+deleted.ID, nil, nil)
	gone, _ := controlapi.ParseRegKey(deleted.Key)
	eventually(t, "the key expires", func() bool { return time.Now().After(expiring.Expires) })
	expired, _ := controlapi.ParseRegKey(expiring.Key)

	at := func(ip string) controlapi.JoinRequest {
		r := wish(secret, "new")
		r.RequestIP = netip.MustParseAddr(ip)
		return r
	}
	for _, c := range []struct {
		what string
		r    controlapi.JoinRequest
		want controlapi.Code
	}{
		{"unknown key", wish("nonsense", "new"), controlapi.CodeKeyUnknown},
		{"deleted key", wish(gone.Secret, "new"), controlapi.CodeKeyUnknown},
		{"expired key", wish(expired.Secret, "new"), controlapi.CodeKeyExpired},
		{"used key", wish(once, "new"), controlapi.CodeKeyUsed},
		{"taken name", wish(secret, "held"), controlapi.CodeNameTaken},
		{"reclaim of a connected device", wish(reclaim, "held"), controlapi.CodeConnected},
		{"upper case", wish(secret, "Held"), controlapi.CodeNameInvalid},
		{"dots", wish(secret, "a.b"), controlapi.CodeNameInvalid},
		{"empty name", wish(secret, ""), controlapi.CodeNameInvalid},
		{"outside", at("10.8.0.1"), controlapi.CodeAddressInvalid},
		{"network address", at("10.7.0.0"), controlapi.CodeAddressInvalid},
		{"broadcast address", at("10.7.0.15"), controlapi.CodeAddressInvalid},
		{"IPv6", at("fd00::1"), controlapi.CodeAddressInvalid},
		{"taken address", at("10.7.0.9"), controlapi.CodeAddressTaken},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, p := w.tryJoin(key.NewPrivate(), c.r)
			w.refused(p, c.want)
		})
	}
	t.Run("another address than it has", func(t *testing.T) {
		_, p := w.tryJoin(held.private, at("10.7.0.3"))
		w.refused(p, controlapi.CodeAddressInvalid)
	})
	t.Run("address at rest", func(t *testing.T) {
		w.admin("DELETE", "/v1/devices/user", nil, nil)
		_, p := w.tryJoin(key.NewPrivate(), at(user.Device.Addresses[0].String()))
		w.refused(p, controlapi.CodeAddressTaken)
	})
	t.Run("deleted device and its single-use key", func(t *testing.T) {
		_, p := w.tryJoin(user.private, wish(once, "user"))
		w.refused(p, controlapi.CodeKeyUsed)
	})
	t.Run("no address left", func(t *testing.T) {
		for i := range 20 {
			if _, p := w.tryJoin(key.NewPrivate(), wish(secret, fmt.Sprint("fill", i))); p != nil {
				w.refused(p, controlapi.CodeExhausted)
				return
			}
		}
		t.Error("more devices than addresses")
	})
	var list controlapi.DeviceList
	w.admin("GET", "/v1/devices", nil, &list)
	for _, d := range list.Devices {
		if d.Name == "new" {
			t.Error("a refused join made a device")
		}
	}
}

func TestProof(t *testing.T) {
	w := start(t, t.TempDir())
	secret := w.regKey(controlapi.RegKeyRequest{})
	for _, c := range []struct {
		what   string
		change func(*controlapi.JoinRequest)
		want   controlapi.Code
	}{
		{"another key's proof", func(r *controlapi.JoinRequest) { r.PublicKey = key.NewPrivate().Public() }, controlapi.CodeProof},
		{"changed name", func(r *controlapi.JoinRequest) { r.Name = "evil" }, controlapi.CodeProof},
		{"changed address", func(r *controlapi.JoinRequest) { r.RequestIP = netip.MustParseAddr("100.64.0.9") }, controlapi.CodeProof},
		{"changed ephemeral", func(r *controlapi.JoinRequest) { r.Ephemeral = true }, controlapi.CodeProof},
		{"no proof", func(r *controlapi.JoinRequest) { r.Proof = []byte{} }, controlapi.CodeInvalid},
		{"short proof", func(r *controlapi.JoinRequest) { r.Proof = r.Proof[:31] }, controlapi.CodeProof},
		{"key of low order", func(r *controlapi.JoinRequest) {
			r.PublicKey, _ = key.PublicFromBytes(append([]byte{1}, make([]byte, 31)...))
		}, controlapi.CodeProof},
		{"no token", func(r *controlapi.JoinRequest) { r.Token = "" }, controlapi.CodeChallenge},
		{"changed token", func(r *controlapi.JoinRequest) { r.Token = "B" + r.Token[1:] }, controlapi.CodeChallenge},
		{"no public key", func(r *controlapi.JoinRequest) { r.PublicKey = key.Public{} }, controlapi.CodeInvalid},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := w.prove(key.NewPrivate(), wish(secret, "new"))
			c.change(&r)
			p, _ := w.send("POST", "/v1/join", "", r, nil)
			w.refused(p, c.want)
		})
	}
}

func TestChallengeExpires(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.ChallengeLife = time.Millisecond })
	r := w.prove(key.NewPrivate(), wish("x", "new"))
	eventually(t, "the challenge expires", func() bool { return w.svc.challenger.check(r.Token, time.Now()) != nil })
	p, _ := w.send("POST", "/v1/join", "", r, nil)
	w.refused(p, controlapi.CodeChallenge)
}

// Many devices at once: of one name one, of one key one, of the rest all, and
// no address twice.
func TestJoinRaces(t *testing.T) {
	w := start(t, t.TempDir())
	secret, once := w.regKey(controlapi.RegKeyRequest{}), w.regKey(controlapi.RegKeyRequest{SingleUse: true})
	same := key.NewPrivate()
	var mu sync.Mutex
	got := map[string]int{}
	ids := map[string]bool{}
	var wg sync.WaitGroup
	run := func(what string, private key.Private, r controlapi.JoinRequest) {
		wg.Go(func() {
			d, p := w.tryJoin(private, r)
			mu.Lock()
			defer mu.Unlock()
			if p != nil {
				got[what+" "+string(p.Code)]++
				return
			}
			got[what]++
			if what == "same key" {
				ids[d.Device.ID] = true
			}
		})
	}
	const n = 8
	for i := range n {
		run("same name", key.NewPrivate(), wish(secret, "db"))
		numbered := wish(secret, "web")
		numbered.OnNameTaken = controlapi.NameNumber
		run("numbered", key.NewPrivate(), numbered)
		run("single use", key.NewPrivate(), wish(once, fmt.Sprint("once", i)))
		run("same key", same, wish(secret, "same"))
		at := wish(secret, fmt.Sprint("at", i))
		at.RequestIP = netip.MustParseAddr("100.64.7.7")
		run("same address", key.NewPrivate(), at)
	}
	wg.Wait()
	want := map[string]int{
		"same name": 1, "same name name_taken": n - 1, "numbered": n, "single use": 1, "single use reg_key_used": n - 1,
		"same key": n, "same address": 1, "same address address_taken": n - 1,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(ids) != 1 {
		t.Errorf("got %v and %d ids, want %v", got, len(ids), want)
	}
	var list controlapi.DeviceList
	w.admin("GET", "/v1/devices", nil, &list)
	taken := map[string]bool{}
	for _, d := range list.Devices {
		for _, key := range []string{d.Name, d.Addresses[0].String(), d.Addresses[1].String()} {
			if taken[key] {
				t.Errorf("%s is given twice", key)
			}
			taken[key] = true
		}
	}
}

func TestReclaim(t *testing.T) {
	w := start(t, t.TempDir())
	old := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "db"))
	peer := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "peer"))
	reclaim := w.regKey(controlapi.RegKeyRequest{Reclaim: true})
	ps := w.mustWatch(peer, "")
	ps.expect(controlapi.EventSnapshot)
	os := w.mustWatch(old, "")
	os.expect(controlapi.EventSnapshot)
	_, p := w.tryJoin(key.NewPrivate(), wish(reclaim, "db"))
	w.refused(p, controlapi.CodeConnected)
	os.stop()
	eventually(t, "the stream is gone", func() bool { return !w.svc.hub.connected(old.Device.ID) })
	d := w.join(wish(reclaim, "db"))
	if d.Device.ID != old.Device.ID || d.Device.Addresses[0] != old.Device.Addresses[0] || d.Device.PublicKey == old.Device.PublicKey {
		t.Errorf("reclaimed %+v", d.Device)
	}
	e := ps.expect(controlapi.EventDelta)
	if len(e.Delta.Upsert) != 1 || e.Delta.Upsert[0].ID != old.Device.ID || e.Delta.Upsert[0].PublicKey != d.private.Public() {
		t.Errorf("the peer is told %+v", e.Delta)
	}
	_, p = w.watch(old, "")
	w.refused(p, controlapi.CodeUnauthorized)
}

func TestJoinRateLimit(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.JoinRate = Rate{PerSecond: 0.01, Burst: 3} })
	for range 3 {
		if p, _ := w.send("POST", "/v1/challenge", "", nil, nil); p != nil {
			t.Fatal(p)
		}
	}
	for _, path := range []string{"/v1/challenge", "/v1/join"} {
		p, res := w.send("POST", path, "", nil, nil) // before anything else is looked at
		w.refused(p, controlapi.CodeRateLimited)
		if res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	var list controlapi.DeviceList
	w.admin("GET", "/v1/devices", nil, &list) // others are not held back
}
