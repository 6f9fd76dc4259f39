package controlclient_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
	"nexd/key"
	"nexd/relay"
)

// One suite for the fake and the service it stands for.
func TestRelayContract(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		f := controlclienttest.NewFake(t)
		f.SetRelays(controlapi.Relay{ID: "relay-own", Name: "service", PublicKey: key.NewPrivate().Public(), URL: "/v1/relay"})
		relayContract(t, f.AdminFile())
	})
	t.Run("service", func(t *testing.T) {
		dir := t.TempDir()
		realService(t, dir, "127.0.0.1:0")
		file, err := controlclient.ReadAdminFile(filepath.Join(dir, "admin.json"))
		if err != nil {
			t.Fatal(err)
		}
		relayContract(t, file)
	})
}

func relayContract(t *testing.T, file controlapi.AdminFile) {
	ctx := within(t, 60*time.Second)
	a, err := controlclient.NewAdmin(file, controlclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	regKey := func(role string) string {
		t.Helper()
		made, err := a.CreateRegKey(ctx, controlapi.RegKeyRequest{Role: role})
		if err != nil || made.Role != role {
			t.Fatal(made, err)
		}
		return made.Key
	}
	devices, relays := regKey(controlapi.RoleDevice), regKey(controlapi.RoleRelay)
	c, err := controlclient.New(controlclient.Config{ServiceURL: file.URL, Pin: controlapi.Pin(file.Pin)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	private := key.NewPrivate()
	dev, err := c.Join(ctx, controlclient.JoinParams{Private: private, RegKey: devices, Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	w := follow(t, c, dev.Credential)
	list := w.next(controlapi.EventRelays).Relays
	if len(list.Relays) != 1 || list.Relays[0].URL != "/v1/relay" {
		t.Fatalf("relays %+v", list)
	}
	if cred, err := relay.ParseCredential(list.Credential); err != nil || cred.Device != private.Public() || cred.Network != relay.NetworkOf(dev.Network.ID) {
		t.Errorf("credential %+v, %v", cred, err)
	}

	address := controlapi.RelayAddress{UDP: []string{"192.0.2.1:3478"}, URL: "https://eu.example.org/v1/relay", Pin: controlapi.PinOf([]byte("x"))}
	p := controlclient.RelayJoinParams{Private: key.NewPrivate(), RegKey: relays, Name: "eu", Address: address, Version: "1"}
	one, err := c.JoinRelay(ctx, p)
	if err != nil || one.Name != "eu" || len(one.Issuers[0]) != ed25519.PublicKeySize {
		t.Fatal(one, err)
	}
	if again, err := c.JoinRelay(ctx, p); err != nil || again.ID != one.ID {
		t.Errorf("again %+v, %v", again, err)
	} else {
		one = again
	}
	beat := controlapi.RelayHeartbeat{RelayAddress: address, Version: "2"}
	answer, err := c.RelayHeartbeat(ctx, one.Credential, beat)
	if err != nil || len(answer.Denied) != 0 || !slices.EqualFunc(answer.Issuers, one.Issuers, slices.Equal) {
		t.Errorf("heartbeat %+v, %v", answer, err)
	}
	list = w.next(controlapi.EventRelays).Relays
	if got := list.Relays[len(list.Relays)-1]; got.ID != one.ID || got.PublicKey != p.Private.Public() || !slices.Equal(got.UDP, address.UDP) || got.URL != address.URL || got.Pin != address.Pin {
		t.Errorf("told of %+v", got)
	}
	w.mu.Lock()
	if kept := w.m.Relays; len(kept.Relays) != 2 || len(kept.Credential) == 0 || w.m.Self.ID == "" {
		t.Errorf("the map keeps %+v", kept)
	}
	w.mu.Unlock()
	if infos, err := a.Relays(ctx); err != nil || len(infos) != 2 || !infos[0].Embedded || infos[1].Embedded || !infos[1].Listed || infos[1].Version != "2" {
		t.Errorf("relays %+v, %v", infos, err)
	}

	if err := c.PublishRelays(ctx, dev.Credential, []string{one.ID, list.Relays[0].ID}); err != nil {
		t.Error(err)
	}
	if d, err := a.Device(ctx, "web"); err != nil || !slices.Equal(d.Relays, []string{one.ID, list.Relays[0].ID}) {
		t.Errorf("device %+v, %v", d, err)
	}
	if self := w.next(controlapi.EventDelta).Delta.Self; self == nil || len(self.Relays) != 2 {
		t.Errorf("own record %+v", self)
	}
	var refused *controlapi.Problem
	if err := c.PublishRelays(ctx, dev.Credential, []string{"unheard-of"}); !errors.As(err, &refused) || refused.Code != controlapi.CodeInvalid {
		t.Errorf("an unknown relay: %v", err)
	}
	if err := c.PublishRelays(ctx, dev.Credential, nil); err != nil {
		t.Error(err)
	}

	p.Private, p.Name = key.NewPrivate(), "eu"
	if _, err := c.JoinRelay(ctx, p); !errors.As(err, &refused) || refused.Code != controlapi.CodeNameTaken {
		t.Errorf("a taken name: %v", err)
	}
	p.RegKey = devices
	if _, err := c.JoinRelay(ctx, p); !errors.As(err, &refused) || refused.Code != controlapi.CodeKeyRole {
		t.Errorf("a device's key: %v", err)
	}
	if _, err := c.Join(ctx, controlclient.JoinParams{Private: key.NewPrivate(), RegKey: relays, Name: "x"}); !errors.As(err, &refused) || refused.Code != controlapi.CodeKeyRole {
		t.Errorf("a relay's key: %v", err)
	}

	if err := a.DeleteDevice(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	answer, err = c.RelayHeartbeat(ctx, one.Credential, beat)
	if err != nil || len(answer.Denied) != 1 || answer.Denied[0].Device != private.Public() || len(answer.Denied[0].Network) != 16 || answer.Denied[0].Until.Before(time.Now()) {
		t.Errorf("heartbeat %+v, %v", answer, err)
	}
	beat.Since = answer.Next
	if answer, err = c.RelayHeartbeat(ctx, one.Credential, beat); err != nil || len(answer.Denied) != 0 {
		t.Errorf("heartbeat %+v, %v", answer, err)
	}
	if err := a.DeleteRelay(ctx, "eu"); err != nil {
		t.Error(err)
	}
	if _, err := c.RelayHeartbeat(ctx, one.Credential, beat); !errors.Is(err, controlclient.ErrRelayDeleted) {
		t.Errorf("a deleted relay: %v", err)
	}
}

// What trusts the service trusts its relay; a relay elsewhere is known by its
// pin or by an authority, and an insecure client still checks a pin.
func TestRelayTrust(t *testing.T) {
	f, other := controlclienttest.NewFake(t), controlclienttest.NewFake(t)
	own := controlapi.Relay{URL: "/v1/relay"}
	there := controlapi.Relay{URL: other.URL() + "/v1/relay", Pin: other.Pin()}
	unpinned := controlapi.Relay{URL: there.URL}
	wrong := controlapi.Relay{URL: there.URL, Pin: f.Pin()}
	pinned := client(t, f)
	authority := client(t, f, func(c *controlclient.Config) { c.Pin, c.CAFile = "", other.CAFile() })
	insecure := client(t, f, func(c *controlclient.Config) { c.Pin, c.Insecure = "", true })
	for _, tc := range []struct {
		what  string
		c     *controlclient.Client
		relay controlapi.Relay
		at    *controlclienttest.Fake
		want  string
	}{
		{"the service's own", pinned, own, f, ""},
		{"the service's own elsewhere", pinned, own, other, "not the pinned one"},
		{"by its pin", pinned, there, other, ""},
		{"by no authority", pinned, unpinned, other, "unknown authority"},
		{"by another pin", pinned, wrong, other, "not the pinned one"},
		{"by an authority", authority, unpinned, other, ""},
		{"insecure", insecure, unpinned, other, ""},
		{"insecure, but pinned", insecure, wrong, other, "not the pinned one"},
	} {
		cfg := tc.c.RelayTLS(tc.relay)
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", strings.TrimPrefix(tc.at.URL(), "https://"), cfg)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.what, err, tc.want)
		}
	}
	changed := pinned.TLSConfig()
	changed.VerifyConnection = func(tls.ConnectionState) error { return errors.New("mine") }
	join(t, pinned, "web") // it was a copy
}

// A network that changes all the time makes no stream each time, and in the end
// there is one.
func TestReconnectIsRationed(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	w := follow(t, c, join(t, c, "web").Credential)
	w.connected()
	before := f.Requests("GET /v1/watch")
	ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	calls := 0
	for ; ctx.Err() == nil; calls++ {
		c.Reconnect()
		<-tick.C
	}
	if made := f.Requests("GET /v1/watch") - before; made > 5 {
		t.Errorf("%d streams for %d calls", made, calls)
	}
	f.Wait("a stream", func() bool { return f.Streams() == 1 })
	name := f.Put(controlapi.Device{Name: "late"}).Name
	w.await(name)
}
