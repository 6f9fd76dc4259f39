package sockerr_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nexd/internal/sockerr"
)

func TestListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	_, inUse := net.Listen("tcp", taken)
	_, elsewhere := net.Listen("tcp", "192.0.2.1:0")
	odd := &net.OpError{Op: "listen", Net: "tcp", Err: errors.New("odd")}
	for _, tt := range []struct {
		address string
		err     error
		want    string
		hint    string
	}{
		{taken, inUse, "--x " + taken + ": the port is in use", "another port"},
		{"192.0.2.1:7", elsewhere, "--x 192.0.2.1:7: this machine has no address 192.0.2.1", ":7 for all"},
		{":80", &net.OpError{Op: "listen", Err: unix.EACCES}, "--x :80: port 80 needs privileges", "1024"},
		{"[::1]:7", odd, "--x [::1]:7: odd", ""},
	} {
		if tt.err == nil {
			t.Fatalf("%s: could be had", tt.address)
		}
		e := sockerr.Listen("--x", tt.address, tt.err)
		if !strings.HasPrefix(e.Error(), tt.want) || !strings.Contains(e.Hint(), tt.hint) || !errors.Is(e, tt.err) {
			t.Errorf("%s: %q, hint %q", tt.address, e, e.Hint())
		}
		if strings.Contains(e.Error(), "listen tcp") {
			t.Errorf("%q says it twice", e)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, right := range []string{"", ":0", ":8443", "192.0.2.1:65535", "[::1]:1", "host.example.com:443"} {
		if err := sockerr.Check("--x", right); err != nil {
			t.Error(err)
		}
	}
	for wrong, want := range map[string]string{
		"8443": "want ADDRESS:PORT", "::1": "want ADDRESS:PORT", "h:65536": `port "65536"`, ":-1": `port "-1"`, ":no-such": `port "no-such"`,
	} {
		err := sockerr.Check("--x", wrong)
		if err == nil || !strings.HasPrefix(err.Error(), "--x ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
