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

func (l *lending) Receive(take func([][]byte, []netip.AddrPort)) error {
	if len(l.packets) == 0 {
		return errEmpty
	}
	take([][]byte{[]byte(l.packets[0])}, make([]netip.AddrPort, 1))
	l.packets = l.packets[1:]
	return nil
}

func TestPeerBorrows(t *testing.T) {
	want := []string{"one", "", "three"}
	var got []string
	err := newPeer(&lending{packets: want}).receive(func(ps [][]byte) {
		for _, p := range ps {
			got = append(got, string(p))
		}
	})
	if err != errEmpty || len(got) != 3 || got[0] != "one" || got[1] != "" || got[2] != "three" {
		t.Errorf("%q, %v", got, err)
	}
}
