package need

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// seen is a T that remembers how it was ended first.
type seen struct{ how string }

func (*seen) Helper()                             {}
func (s *seen) Fatalf(format string, args ...any) { s.end("failed: " + fmt.Sprintf(format, args...)) }

func (s *seen) Skipf(format string, args ...any) { s.end("skipped: " + fmt.Sprintf(format, args...)) }

func (s *seen) end(how string) {
	if s.how == "" {
		s.how = how
	}
}

func TestMissing(t *testing.T) {
	for require, want := range map[string]string{"": "skipped: ", "1": "failed: "} {
		t.Setenv("NEXD_TEST_REQUIRE", require)
		var s seen
		Programs(&s, "sh", "no-such-program")
		if !strings.HasPrefix(s.how, want) || !strings.Contains(s.how, "no-such-program") {
			t.Errorf("NEXD_TEST_REQUIRE=%s: %s", require, s.how)
		}
	}
}

func TestPort(t *testing.T) {
	given := map[uint16]bool{}
	for range 100 {
		port := Port(t)
		if given[port] || port < lowestPort || port >= lowestPort+ports {
			t.Errorf("port %d", port)
		}
		given[port] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}

// Processes that run side by side get ports of their own, and none runs out.
func TestPortsOfProcesses(t *testing.T) {
	var all [2]blocks
	owner := map[uint16]int{}
	take := func(i int) {
		t.Helper()
		port := all[i].port()
		if other, given := owner[port]; port == 0 || given && other != i {
			t.Fatalf("port %d of process %d", port, other)
		}
		owner[port] = i
	}
	for range 3 * blockSize {
		take(0)
		take(1)
	}
	for range mostBlocks * blockSize {
		take(0)
	}
	if n := len(all[0].own); n != mostBlocks {
		t.Errorf("%d blocks", n)
	}
	for i := range all {
		for _, l := range all[i].own {
			l.Close()
		}
	}
}
