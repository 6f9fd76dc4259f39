package controlclient_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nexd/control"
	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
	"nexd/key"
	"nexd/test/need"
)

// realService runs the service itself in dir until stop is called.
func realService(t *testing.T, dir, listen string) (svc *control.Service, stop func()) {
	t.Helper()
	svc, err := control.New(control.Config{Listen: listen, STUNListen: "127.0.0.1:0", StateDir: dir, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	<-svc.Ready()
	return svc, stop
}

// One suite for the fake and the service it stands for.
func TestContract(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		f := controlclienttest.NewFake(t)
		contract(t, f.AdminFile(), func() { f.Stop(); f.Start() })
	})
	t.Run("service", func(t *testing.T) {
		dir := t.TempDir()
		addr := fmt.Sprintf("127.0.0.1:%d", need.Port(t)) // the same after the restart
		_, stop := realService(t, dir, addr)
		file, err := controlclient.ReadAdminFile(filepath.Join(dir, "admin.json"))
		if err != nil {
			t.Fatal(err)
		}
		contract(t, file, func() { stop(); _, stop = realService(t, dir, addr) })
	})
}

func contract(t *testing.T, file controlapi.AdminFile, restart func()) {
	ctx := within(t, 60*time.Second)
	a, err := controlclient.NewAdmin(file, controlclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	made, err := a.CreateRegKey(ctx, controlapi.RegKeyRequest{Description: "contract"})
	if err != nil {
		t.Fatal(err)
	}
	regKey, err := controlapi.ParseRegKey(made.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := controlclient.New(controlclient.Config{ServiceURL: file.URL, Pin: regKey.Pin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	enter := func(private key.Private, name string) (controlapi.JoinResponse, error) {
		return c.Join(ctx, controlclient.JoinParams{Private: private, RegKey: made.Key, Name: name})
	}
	mustEnter := func(private key.Private, name string) controlapi.JoinResponse {
		t.Helper()
		resp, err := enter(private, name)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}

	one, two := key.NewPrivate(), key.NewPrivate()
	first := mustEnter(one, "one")
	if again := mustEnter(one, "one"); again.Device.ID != first.Device.ID || again.Device.Addresses[0] != first.Device.Addresses[0] {
		t.Errorf("the same key became another device: %+v, then %+v", first.Device, again.Device)
	} else {
		first = again // its credential is the newest
	}
	var refused *controlapi.Problem
	if _, err := enter(two, "one"); !errors.As(err, &refused) || refused.Code != controlapi.CodeNameTaken || controlclient.Hint(err) == "" {
		t.Errorf("a taken name: %v", err)
	}
	if _, err := c.Join(ctx, controlclient.JoinParams{Private: two, RegKey: "unheard-of", Name: "two"}); !errors.As(err, &refused) || refused.Code != controlapi.CodeKeyUnknown {
		t.Errorf("an unknown key: %v", err)
	}

	w := follow(t, c, first.Credential)
	if m := w.next(controlapi.EventSnapshot).Map; m.Self.ID != first.Device.ID || len(m.Peers) != 0 || m.Epoch == "" {
		t.Errorf("snapshot %+v", m)
	}
	second := mustEnter(two, "two")
	w.await("two")
	restart()
	w.lost()
	third := mustEnter(key.NewPrivate(), "three")
	w.await("two", "three")

	w2 := follow(t, c, second.Credential)
	if m := w2.next(controlapi.EventSnapshot).Map; len(m.Peers) != 2 {
		t.Errorf("the second device's peers: %+v", m.Peers)
	}
	w.connected()
	if delivered, err := c.Signal(ctx, second.Credential, controlapi.Signal{To: one.Public(), Payload: []byte("sealed")}); err != nil || !delivered {
		t.Errorf("signal: %t, %v", delivered, err)
	}
	if got := w.next(controlapi.EventSignal).Signal; got.From != two.Public() || string(got.Payload) != "sealed" {
		t.Errorf("received %+v", got)
	}

	if list, err := a.Devices(ctx); err != nil || len(list) != 3 {
		t.Errorf("devices %+v, %v", list, err)
	}
	name := "drei"
	if d, err := a.UpdateDevice(ctx, "three", controlapi.DeviceUpdate{Name: &name}); err != nil || d.ID != third.Device.ID {
		t.Errorf("renamed: %+v, %v", d, err)
	}
	w.await("two", "drei")
	if err := c.Leave(ctx, third.Credential); err != nil {
		t.Error(err)
	}
	w.await("two")
	if err := c.Leave(ctx, third.Credential); err != nil {
		t.Errorf("left already: %v", err)
	}
	if err := a.DeleteDevice(ctx, "two"); err != nil {
		t.Error(err)
	}
	if err := w2.ended(); !errors.Is(err, controlclient.ErrDeleted) {
		t.Errorf("the deleted device's stream ended with %v", err)
	}
	if err := follow(t, c, second.Credential).ended(); !errors.Is(err, controlclient.ErrDeleted) {
		t.Errorf("and its next with %v", err)
	}
	w.await()

	if keys, err := a.RegKeys(ctx); err != nil || len(keys) != 1 {
		t.Errorf("keys %+v, %v", keys, err)
	}
	if err := a.DeleteRegKey(ctx, made.ID); err != nil {
		t.Error(err)
	}
	if keys, err := a.RegKeys(ctx); err != nil || len(keys) != 0 {
		t.Errorf("keys %+v, %v", keys, err)
	}
}

// await follows the events until the peers are these, by name.
func (f *follower) await(names ...string) {
	f.t.Helper()
	names = slices.Sorted(slices.Values(names))
	timeout := time.After(10 * time.Second)
	for {
		got := f.peers()
		slices.Sort(got)
		if slices.Equal(got, names) {
			return
		}
		select {
		case <-f.events:
		case <-timeout:
			f.t.Fatalf("peers are %v, want %v", got, names)
		}
	}
}
