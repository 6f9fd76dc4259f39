package need

import (
	"net"
	"os"
	"os/exec"
)

// T is what this package wants of a test; testing.TB has it.
type T interface {
	Helper()
	// Fatalf and Skipf end the calling goroutine.
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Missing ends the test for lack of what: skipped, or failed where
// NEXD_TEST_REQUIRE says that everything is to be there.
func Missing(t T, what string) {
	t.Helper()
	if os.Getenv("NEXD_TEST_REQUIRE") != "" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s (test/setup.sh installs what tests need)", what)
}

// Programs checks that programs are installed.
func Programs(t T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Missing(t, "program "+p)
		}
	}
}

// IPv6 checks that there is ::1.
func IPv6(t T) {
	t.Helper()
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		Missing(t, "IPv6: "+err.Error())
		return
	}
	c.Close()
}
