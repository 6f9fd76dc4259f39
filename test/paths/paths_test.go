package paths

import (
	"flag"
	"os"
	"sync"
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

// relays reports whether the programs have relays at all.
var relays = struct {
	once sync.Once
	yes  bool
}{}

// haveRelays asks a member that is ready whether it connects to a relay.
func haveRelays(t *testing.T, m *Member) bool {
	t.Helper()
	relays.once.Do(func() {
		_, err := m.OnRelay(3 * time.Second)
		relays.yes = err == nil
		if err != nil {
			t.Logf("no relays: what needs one is not asked for: %v", err)
		}
	})
	return relays.yes
}
