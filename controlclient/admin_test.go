package controlclient_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
)

func admin(t *testing.T, f *controlclienttest.Fake) *controlclient.Admin {
	t.Helper()
	a, err := controlclient.NewAdmin(f.AdminFile(), controlclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func TestAdminRegKeys(t *testing.T) {
	f := controlclienttest.NewFake(t)
	a, ctx := admin(t, f), within(t, 10*time.Second)
	made, err := a.CreateRegKey(ctx, controlapi.RegKeyRequest{Description: "for the web", SingleUse: true, Tags: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	if k, err := controlapi.ParseRegKey(made.Key); err != nil || k.ServiceURL != f.URL() || k.Pin != f.Pin() {
		t.Errorf("key %q: %v", made.Key, err)
	}
	list, err := a.RegKeys(ctx)
	if err != nil || len(list) != 1 || list[0].ID != made.ID || !list[0].SingleUse {
		t.Errorf("list %+v, %v", list, err)
	}
	if err := a.DeleteRegKey(ctx, made.ID); err != nil {
		t.Fatal(err)
	}
	var p *controlapi.Problem
	if err := a.DeleteRegKey(ctx, made.ID); !errors.As(err, &p) || p.Code != controlapi.CodeNotFound {
		t.Errorf("deleted again: %v", err)
	}
}

func TestAdminDevices(t *testing.T) {
	f := controlclienttest.NewFake(t)
	a, ctx := admin(t, f), within(t, 10*time.Second)
	c := client(t, f)
	self := join(t, c, "web")
	w := follow(t, c, self.Credential)
	w.next(controlapi.EventSnapshot)
	list, err := a.Devices(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "web" || !list[0].Connected {
		t.Errorf("list %+v, %v", list, err)
	}
	name := "www"
	if d, err := a.UpdateDevice(ctx, "web", controlapi.DeviceUpdate{Name: &name}); err != nil || d.Name != name {
		t.Errorf("update %+v, %v", d, err)
	}
	if d, err := a.Device(ctx, self.Device.ID); err != nil || d.Name != name {
		t.Errorf("show %+v, %v", d, err)
	}
	for _, ref := range []string{"", ".", "..", "no/such", "no such?x=1#y", "web"} {
		if d, err := a.Device(ctx, ref); err == nil {
			t.Errorf("%q is %+v", ref, d)
		}
	}
	if err := a.DeleteDevice(ctx, name); err != nil {
		t.Fatal(err)
	}
	if err := w.ended(); !errors.Is(err, controlclient.ErrDeleted) {
		t.Errorf("watch ended with %v", err)
	}
}

// Creating a key twice would leave one lying about: only a service that surely
// did nothing is asked again.
func TestAdminCreatesOnce(t *testing.T) {
	f := controlclienttest.NewFake(t)
	a := admin(t, f)
	var asked atomic.Int32
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case 2:
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if _, err := a.CreateRegKey(within(t, 10*time.Second), controlapi.RegKeyRequest{}); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Errorf("got %v", err)
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
	if _, err := a.CreateRegKey(within(t, 10*time.Second), controlapi.RegKeyRequest{}); err != nil {
		t.Error(err)
	}
}

// A person is not kept waiting for minutes.
func TestAdminDoesNotWaitLong(t *testing.T) {
	f := controlclienttest.NewFake(t)
	a := admin(t, f)
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "600")
		controlclienttest.Refuse(w, controlapi.Problem{Status: 429, Code: controlapi.CodeRateLimited, Detail: "too many requests"})
		return true
	})
	_, err := a.Devices(within(t, 10*time.Second))
	var p *controlapi.Problem
	if !errors.As(err, &p) || p.Code != controlapi.CodeRateLimited {
		t.Errorf("got %v", err)
	}
}

func TestReadAdminFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	want := controlapi.AdminFile{URL: "https://svc:8443", Token: "t", Pin: "p"}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := controlclient.ReadAdminFile(write("good", string(text))); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"):      "does not exist: `nexd serve` writes it",
		write("cut", string(text[:9])):    "want JSON with url and token",
		write("foreign", `{"token":"t"}`): "want JSON with url and token",
		dir:                               "is a directory",
	} {
		if _, err := controlclient.ReadAdminFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want …%s…", path, err, want)
		}
	}
	for _, file := range []controlapi.AdminFile{{URL: "https://svc"}, {URL: "http://svc", Token: "t"}} {
		if _, err := controlclient.NewAdmin(file, controlclient.Config{}); err == nil {
			t.Errorf("%+v taken", file)
		}
	}
}
