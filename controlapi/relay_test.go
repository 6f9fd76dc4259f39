package controlapi_test

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nexd/controlapi"
	"nexd/key"
)

// Every field of a relay's join that decides its outcome is under the proof.
func TestRelayTranscript(t *testing.T) {
	base := controlapi.RelayJoinRequest{
		RegKey: "secret", PublicKey: key.NewPrivate().Public(), Token: "token", Name: "eu",
		RelayAddress: controlapi.RelayAddress{UDP: []string{"a:1", "b:2"}, URL: "https://a", Pin: "p"},
	}
	change := map[string]func(*controlapi.RelayJoinRequest){
		"registration key": func(r *controlapi.RelayJoinRequest) { r.RegKey = "secre" },
		"public key":       func(r *controlapi.RelayJoinRequest) { r.PublicKey = key.NewPrivate().Public() },
		"token":            func(r *controlapi.RelayJoinRequest) { r.Token = "other" },
		"name":             func(r *controlapi.RelayJoinRequest) { r.Name = "us" },
		"url":              func(r *controlapi.RelayJoinRequest) { r.URL = "" },
		"pin":              func(r *controlapi.RelayJoinRequest) { r.Pin = "" },
		"udp":              func(r *controlapi.RelayJoinRequest) { r.UDP = []string{"a:1"} },
		"shifted":          func(r *controlapi.RelayJoinRequest) { r.UDP = []string{"a:1b", ":2"} },
		"into the pin":     func(r *controlapi.RelayJoinRequest) { r.Pin, r.UDP = "pa:1", r.UDP[1:] },
	}
	want := base.Transcript()
	for name, f := range change {
		r := base
		f(&r)
		if bytes.Equal(r.Transcript(), want) {
			t.Errorf("%s is not covered", name)
		}
	}
	r := base
	r.Proof, r.Version = []byte("x"), "v1"
	if !bytes.Equal(r.Transcript(), want) {
		t.Error("the proof covers what does not decide")
	}
}

func TestRelayAt(t *testing.T) {
	r := controlapi.Relay{ID: "r", UDP: []string{":3478", "192.0.2.1:1", "[2001:db8::1]:2", "eu.example.org:3"}, URL: "/v1/relay"}
	for service, want := range map[string][2]string{
		"https://mesh.example.org:8443": {"mesh.example.org:3478", "https://mesh.example.org:8443/v1/relay"},
		"https://[2001:db8::9]/mesh":    {"[2001:db8::9]:3478", "https://[2001:db8::9]/mesh/v1/relay"},
		"https://192.0.2.9/mesh/":       {"192.0.2.9:3478", "https://192.0.2.9/mesh/v1/relay"},
	} {
		at, err := r.At(service)
		if err != nil || at.UDP[0] != want[0] || !slices.Equal(at.UDP[1:], r.UDP[1:]) || at.URL != want[1] || at.ID != "r" {
			t.Errorf("at %s: %+v, %v", service, at, err)
		}
	}
	elsewhere := controlapi.Relay{URL: "https://eu.example.org/x"}
	if at, err := elsewhere.At("https://mesh.example.org"); err != nil || at.URL != elsewhere.URL || len(at.UDP) != 0 {
		t.Errorf("elsewhere: %+v, %v", at, err)
	}
	if _, err := r.At("nowhere"); err == nil {
		t.Error("a service without a host is taken")
	}
	if r.UDP[0] != ":3478" {
		t.Error("the relay was changed")
	}
}

// What passes the check stays as it is for any device, wherever that knows the
// service, and is short enough to be told.
func FuzzRelayAddress(f *testing.F) {
	f.Add("192.0.2.1:3478", "https://r.example.org/v1/relay", "")
	f.Add("[2001:db8::1]:1", "", "")
	f.Add("eu.example.org.:65535", "https://[::1]:443", "0BK97mGy_kUCneCsvfJs906YWX1D8kVd75MFe7lCIgk")
	f.Add("[::1%lo]:1", "http://x", "short")
	f.Add("[0]:1", "", "")                     // brackets around a name
	f.Add(strings.Repeat("\xcd", 150), "", "") // four times as long once quoted
	f.Fuzz(func(t *testing.T, udp, url, pin string) {
		a := controlapi.RelayAddress{UDP: []string{udp}, URL: url, Pin: controlapi.Pin(pin)}
		if err := a.Check(); err != nil {
			if len(err.Error()) > 500 {
				t.Errorf("error %q", err)
			}
			return
		}
		if len(udp) > 300 || len(url) > 512 || len(pin) > 43 || strings.HasPrefix(udp, ":") || strings.HasPrefix(url, "/") {
			t.Errorf("taken: %q %q %q", udp, url, pin)
		}
		r := controlapi.Relay{UDP: a.UDP, URL: a.URL, Pin: a.Pin}
		if at, err := r.At("https://mesh.example.org/x"); err != nil || !reflect.DeepEqual(at, r) {
			t.Errorf("%+v became %+v, %v", r, at, err)
		}
	})
}
