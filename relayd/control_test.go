package relayd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"nexd/control"
	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/key"
	"nexd/relay"
)

// realService runs the service itself until the test ends.
func realService(t *testing.T) (*control.Service, *controlclient.Admin) {
	t.Helper()
	dir := t.TempDir()
	s, err := control.New(control.Config{Listen: "127.0.0.1:0", STUNListen: "127.0.0.1:0", StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	file, err := controlclient.ReadAdminFile(filepath.Join(dir, "admin.json"))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := controlclient.NewAdmin(file, controlclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	return s, admin
}

func regKey(t *testing.T, admin *controlclient.Admin, role string) controlapi.RegKey {
	t.Helper()
	created, err := admin.CreateRegKey(t.Context(), controlapi.RegKeyRequest{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	k, err := controlapi.ParseRegKey(created.Key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// member joins the real service and keeps its stream; lists are what it is told
// of relays.
func member(t *testing.T, k controlapi.RegKey, private key.Private, name string) (client *controlclient.Client, lists <-chan controlapi.RelayList) {
	t.Helper()
	client, err := controlclient.New(controlclient.Config{ServiceURL: k.ServiceURL, Pin: k.Pin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	resp, err := client.Join(t.Context(), controlclient.JoinParams{Private: private, RegKey: k.Secret, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan controlapi.RelayList, 64)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		client.Watch(ctx, controlclient.WatchConfig{Credential: resp.Credential, On: func(ev controlapi.Event) {
			if ev.Type == controlapi.EventRelays {
				told <- *ev.Relays
			}
		}})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return client, told
}

// A real service tells its devices of a relay that registered, and of its end;
// who was deleted loses the session there.
func TestWithTheRealService(t *testing.T) {
	_, admin := realService(t)
	l := &log{t: t}
	cfg := Config{
		RegKey: regKey(t, admin, controlapi.RoleRelay).String(), StateDir: t.TempDir(), Name: "far",
		RelayListen: "127.0.0.1:0", Listen: "127.0.0.1:0", heartbeat: 50 * time.Millisecond, DrainTimeout: time.Second,
	}
	r := start(t, cfg, l).serves()

	k, private := regKey(t, admin, controlapi.RoleDevice), key.NewPrivate()
	client, lists := member(t, k, private, "web")
	far, list := controlapi.Relay{}, controlapi.RelayList{}
	timeout := time.After(patience)
	for far.ID == "" {
		select {
		case list = <-lists:
			for _, one := range list.Relays {
				if one.Name == "far" {
					far = one
				}
			}
		case <-timeout:
			t.Fatal("the device is not told of the relay")
		}
	}
	if far.PublicKey != r.Public() || len(far.UDP) != 1 || far.UDP[0] != r.UDPAddr().String() || far.Pin == "" {
		t.Errorf("told %+v", far)
	}
	c, err := relay.NewClient(relay.ClientConfig{
		Private: private, Relay: far.PublicKey, URL: far.URL, TLS: client.RelayTLS(far), Dial: (&net.Dialer{}).DialContext,
		Credential: func() []byte { return list.Credential },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	waitFor(t, "a session", func() bool { return c.Status().Transport == relay.TLS })

	if err := admin.DeleteDevice(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of its session", func() bool {
		var bye *relay.ByeError
		return errors.As(c.Status().Err, &bye) && bye.Reason == relay.ByeDenied
	})
	if err := admin.DeleteRelay(t.Context(), "far"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of service", func() bool { return r.station.Load() == nil })
	cfg.RegKey, cfg.StateDir = k.String(), t.TempDir()
	if usage := start(t, cfg, l).refused(); usage.Hint == "" {
		t.Errorf("a key for devices: %q", usage.Message)
	}
}
