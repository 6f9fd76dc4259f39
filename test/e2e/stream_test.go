//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"nexd/test/cluster"
	"nexd/test/need"
)

// TestHalfClose: `nc -N` closes its sending side at the end of its input and
// still gets the answer, whichever side asks and whichever side ends first.
func TestHalfClose(t *testing.T) {
	need.Programs(t, "nc", "socat", "ss", "sha256sum")
	p := newPair(t,
		[]string{"--ingress", "tcp:7000:127.0.0.1:7000", "--ingress", "tcp:7001:127.0.0.1:7001"},
		[]string{"--egress", "tcp:7000:server:7000", "--egress", "tcp:7001:server:7001"})
	dir := p.Dir("nc", 0)
	randomFile(t, dir+"/question", 8<<20)
	randomFile(t, dir+"/answer", 8<<20)

	// The client ends first: the server reads the question to its end, and only
	// then answers into a connection whose other half is closed.
	p.server.Start("answering server", p.server.Command("socat", "-t", "60", "TCP-LISTEN:7000,bind=127.0.0.1,reuseaddr",
		fmt.Sprintf("SYSTEM:sha256sum >%[1]s/heard; cat %[1]s/answer", dir)))
	awaitListener(t, p.server, 7000)
	p.client.RunFor(time.Minute, "sh", "-c", fmt.Sprintf(`nc -N 127.0.0.1 7000 <%[1]s/question >%[1]s/got`, dir))
	sameSum(t, p.server, dir+"/answer", dir+"/got")
	cluster.Until(t, 10*time.Second, "the server's sum", func() error {
		if sum, want := p.server.Run("cat", dir+"/heard"), p.server.Run("sha256sum", dir+"/question"); !strings.HasPrefix(want, strings.Fields(sum + " -")[0]) {
			return fmt.Errorf("the server heard another question: %s", sum)
		}
		return nil
	})

	// The server ends first: it sends all it has and closes its half at once;
	// the client then sends its own and the server hears all of it.
	server := p.server.Start("talking server", p.server.Command("sh", "-c", fmt.Sprintf(
		`nc -N -l 127.0.0.1 7001 <%[1]s/answer >%[1]s/heard2`, dir)))
	awaitListener(t, p.server, 7001)
	p.client.RunFor(time.Minute, "sh", "-c", fmt.Sprintf(
		`mkfifo %[1]s/late; nc -N 127.0.0.1 7001 <%[1]s/late >%[1]s/got2 & exec 3>%[1]s/late
		 while [ "$(stat -c %%s %[1]s/got2 2>/dev/null || echo 0)" -lt 8388608 ]; do sleep 0.05; done
		 cat %[1]s/question >&3; exec 3>&-; wait`, dir))
	server.Wait(20 * time.Second)
	sameSum(t, p.server, dir+"/answer", dir+"/got2")
	sameSum(t, p.server, dir+"/question", dir+"/heard2")
}

// awaitListener waits for a listening socket without connecting to it.
func awaitListener(t *testing.T, n *cluster.Node, port int) {
	t.Helper()
	cluster.Until(t, 10*time.Second, "listener", func() error {
		if out := n.Run("ss", "-Htln", fmt.Sprintf("sport = :%d", port)); strings.TrimSpace(out) == "" {
			return fmt.Errorf("nothing listens on %d", port)
		}
		return nil
	})
}

func sameSum(t *testing.T, n *cluster.Node, a, b string) {
	t.Helper()
	out := strings.Fields(n.Run("sha256sum", a, b))
	if len(out) != 4 || out[0] != out[2] {
		t.Errorf("%s and %s differ: %v", a, b, out)
	}
}
