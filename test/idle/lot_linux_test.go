package idle

import (
	"net"
	"testing"
	"time"
)

// Parked connections are open until they leave, sent away or not.
func TestLot(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	lot := NewLot(t)
	var others []net.Conn
	for range AtOnce + 1 {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		other, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		others = append(others, other)
		lot.Park(c)
	}
	if len(lot.waiting) != 1 {
		t.Errorf("%d files of the process are open", len(lot.waiting))
	}
	read := func(c net.Conn, patience time.Duration) error {
		c.SetReadDeadline(time.Now().Add(patience))
		_, err := c.Read(make([]byte, 1))
		return err
	}
	ends := []net.Conn{others[0], others[AtOnce]}
	for _, c := range ends {
		if e, ok := read(c, time.Millisecond).(net.Error); !ok || !e.Timeout() {
			t.Errorf("a parked connection: %v", e)
		}
	}
	lot.Leave()
	lot.Leave()
	for _, c := range ends {
		if e, ok := read(c, 10*time.Second).(net.Error); ok && e.Timeout() {
			t.Error("open after Leave")
		}
	}
}

func TestMemory(t *testing.T) {
	before := Memory()
	held := make([]byte, 8<<20)
	after := Memory()
	if after < before+uint64(len(held))/2 {
		t.Errorf("%d bytes, then %d with %d more", before, after, len(held))
	}
	held[0] = 1 // it is held until here
}
