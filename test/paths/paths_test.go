//go:build linux

package paths

import (
	"flag"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/test/cluster"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8") // they wait more than they work
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		cluster.RemoveBinaries()
		os.Exit(code)
	}))
}

// ready waits for members that were started together.
func ready(members ...*Member) {
	for _, m := range members {
		m.Ready()
	}
}

// onRelay wants members that are ready to have a session with a relay.
func onRelay(t *testing.T, members ...*Member) {
	t.Helper()
	for _, m := range members {
		if _, err := m.OnRelay(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
}
