package proxy

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// lending is a socket that lends what is in it, and cannot be read otherwise.
type lending struct {
	net.Conn
	packets []string
}

var errEmpty = errors.New("empty")

func (l *lending) Receive(take func([]byte, netip.AddrPort)) error {
	if len(l.packets) == 0 {
		return errEmpty
	}
	take([]byte(l.packets[0]), netip.AddrPort{})
	l.packets = l.packets[1:]
	return nil
}

func TestReadPacketsBorrows(t *testing.T) {
	want := []string{"one", "", "three"}
	var got []string
	err := readPackets(&lending{packets: want}, func(p []byte) { got = append(got, string(p)) })
	if err != errEmpty || len(got) != 3 || got[0] != "one" || got[1] != "" || got[2] != "three" {
		t.Errorf("%q, %v", got, err)
	}
}
