package proxy

import (
	"context"
	"net"
	"testing"
)

// Who goes away while the question for a name is under way takes the answer from
// nobody else who waits for it.
func TestNamesOutliveWhoAsked(t *testing.T) {
	heard, err := net.ListenPacket("udp", "127.0.0.1:0") // hears questions, and is silent
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	good := startNameServer(t)
	good.set(0, "db.example. 60 IN A 10.0.0.9")
	n, _ := testNames(heard.LocalAddr().String(), good.addr)

	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := n.lookup(ctx, "db.example")
		first <- err
	}()
	if _, _, err := heard.ReadFrom(make([]byte, 1500)); err != nil { // the question is under way
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := n.lookup(t.Context(), "db.example")
		second <- err
	}()
	leave()
	if err := <-first; err == nil {
		t.Error("who left got an answer")
	}
	if err := <-second; err != nil {
		t.Errorf("who stayed: %v", err)
	}
}

// A question ends with who asked it, not with the time its server may take.
func TestNamesEndWithWhoAsked(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	n, _ := testNames(silent.LocalAddr().String())

	ended := make(chan string, 2)
	look := func(ctx context.Context, name string) {
		if _, err := n.lookup(ctx, name); err == nil {
			t.Errorf("%s has an address", name)
		}
		ended <- name
	}
	go look(t.Context(), "patient.example")
	if _, _, err := silent.ReadFrom(make([]byte, 1500)); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	go look(ctx, "leaving.example")
	for range 3 { // the other question of the first, and both of the second
		if _, _, err := silent.ReadFrom(make([]byte, 1500)); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	if first, _ := <-ended, <-ended; first != "leaving.example" {
		t.Errorf("%s ended first", first)
	}
}
