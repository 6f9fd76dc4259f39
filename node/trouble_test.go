package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/relay"
)

func TestWhatCouldNotBeKept(t *testing.T) {
	store := fmt.Errorf("write s: %w: the change is kept in memory", &fs.PathError{Op: "write", Path: "/s/state.json.new", Err: syscall.ENOSPC})
	var lost *diskError
	if err := notKept("keep it", errors.Join(store, nil)); !errors.As(err, &lost) || err.Error() != "keep it: write /s/state.json.new: no space left on device" ||
		!strings.Contains(lost.Hint(), "make room") || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	if err := notKept("keep it", &fs.PathError{Op: "open", Path: "/s", Err: syscall.EROFS}); !errors.As(err, &lost) || !strings.Contains(lost.Hint(), "writable") {
		t.Errorf("%v", err)
	}
	if err := notKept("keep it", errors.New("no")); !errors.As(err, &lost) || err.Error() != "keep it: no" || lost.Hint() != "" {
		t.Errorf("%v", err)
	}
	if err := notKept("keep it", nil); err != nil {
		t.Error(err)
	}
}

// Nobody wants to read how many libraries a refused connection went through.
func TestRelayTroubleInWords(t *testing.T) {
	web := func(err error) error {
		return fmt.Errorf("relay over websocket: failed to WebSocket dial: %w", &url.Error{Op: "Get", URL: "https://h/v1/relay", Err: err})
	}
	dial := func(err error) error {
		return web(&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8443}, Err: err})
	}
	for want, err := range map[string]error{
		"192.0.2.1:8443 refuses connections":             dial(syscall.ECONNREFUSED),
		"192.0.2.1:8443 cannot be reached from here":     dial(syscall.EHOSTUNREACH),
		"the HTTP proxy refuses connections":             web(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: dial(syscall.ECONNREFUSED)}),
		"host h is not known":                            web(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "h", IsNotFound: true}}),
		"no answer":                                      errors.New("no answer"),
		web(errors.New("certificate is old")).Error():    web(errors.New("certificate is old")),
		dial(errors.New("something of its own")).Error(): dial(errors.New("something of its own")),
	} {
		if got := relayTrouble(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	c := relayCheck(relay.PoolStatus{Err: dial(syscall.ECONNREFUSED)})
	if c.UDP.Error != "no answer by UDP" || c.TLS.Error != "192.0.2.1:8443 refuses connections" || !c.UDP.Tried || c.UDP.OK {
		t.Errorf("%+v", c)
	}
	if c := relayCheck(relay.PoolStatus{Err: errors.New("refused: full")}); c.UDP.Error != "refused: full" || c.TLS.Error != c.UDP.Error {
		t.Errorf("%+v", c)
	}
}

// Of a network nobody looked at nothing is said, and nobody is sent to mend a
// way to the service that is open.
func TestDoctorOfWhoIsNoMember(t *testing.T) {
	subjects := func(c checkup) (out []string) {
		for _, f := range diagnose(c).Findings {
			out = append(out, f.Subject)
		}
		return out
	}
	c := checkup{
		Now: noon, Reasons: []string{"the device has not joined the mesh"}, Outside: true,
		Service: serviceFacts{URL: "https://h:8443", Since: noon.Add(-time.Minute), Err: "h:8443 refuses connections"},
	}
	if got := subjects(c); !slices.Equal(got, []string{"daemon", "service"}) {
		t.Errorf("before the join: %v", got)
	}
	c.Expelled, c.Reasons = true, []string{"the service no longer knows this device: restart it with a registration key"}
	if got := subjects(c); !slices.Equal(got, []string{"daemon"}) || diagnose(c).Findings[0].Level != localapi.LevelProblem {
		t.Errorf("expelled: %v", got)
	}
}
