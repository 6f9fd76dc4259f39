package main

import (
	"net"
	"strconv"
	"testing"
	"time"
)

// TestLoad has the load without a system between: everything it can do.
func TestLoad(t *testing.T) {
	server, client := &Agent{conns: map[net.Conn]struct{}{}}, &Agent{conns: map[net.Conn]struct{}{}}
	e := &env{shared: net.ErrClosed}
	addr := net.JoinHostPort("127.0.0.1", (&system{env: e}).port())
	if err := server.Listen(addr, nil); err != nil {
		t.Fatal(err)
	}
	for _, up := range []bool{true, false} {
		if err := client.Open(Streams{Addr: addr, Up: up, N: 2}, nil); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "streams flow both ways", func() bool { return server.up.Load() > 1<<20 && client.down.Load() > 1<<20 })
	client.Drop(Nothing{}, nil)

	var trips Trips
	if err := client.Ping(Pings{addr, 20 * time.Millisecond}, &trips); err != nil || trips.N == 0 || trips.P50 <= 0 || trips.P99 < trips.P50 {
		t.Errorf("%+v, %v", trips, err)
	}
	var visited Visited
	if err := client.Visit(Visits{addr, 4, 20 * time.Millisecond}, &visited); err != nil || visited.N == 0 {
		t.Errorf("%+v, %v", visited, err)
	}
	if err := client.TryUDP(addr, nil); err != nil {
		t.Error(err)
	}
	var flooded Flooded
	if err := client.Send(Flood{addr, 10000, 50 * time.Millisecond}, &flooded); err != nil || flooded.N == 0 {
		t.Errorf("%+v, %v", flooded, err)
	}
	until(t, "datagrams arrive", func() bool { return server.datagrams.Load() > 0 })
	var took time.Duration
	if err := client.Idle(Crowd{addr, 20}, &took); err != nil || len(client.conns) != 20 {
		t.Errorf("%d connections, %v", len(client.conns), err)
	}
	client.Drop(Nothing{}, nil)
	if err := client.Open(Streams{Addr: "127.0.0.1:" + strconv.Itoa(1), N: 1}, nil); err == nil {
		t.Error("a stream to nobody")
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
