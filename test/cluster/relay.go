//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// relayOps is where a relay of this package answers its operator.
const relayOps = "127.0.0.1:9478"

// Relay is `nexd relay`.
type Relay struct {
	*Proc
	Node *Node
	Dir  string // its state directory
	Name string

	c    *Cluster
	args []string
}

// Relay starts `nexd relay` on a node as an unprivileged user, named after it,
// with further arguments; it registers with the service. It waits until it is
// ready.
func (s *Service) Relay(n *Node, args ...string) *Relay {
	s.c.t.Helper()
	r := &Relay{Node: n, Name: n.Name, c: s.c, Dir: s.c.Dir("relay-"+n.Name, n.UID)}
	r.args = append([]string{
		"relay", "--state-dir", r.Dir, "--name", n.Name, "--reg-key", s.RegKey("--relay"),
		"--public-address", n.V4.String(), "--ops-listen", relayOps, "--log-level", "debug",
	}, args...)
	r.Start()
	return r
}

// Start starts the relay (again) with the arguments it had and waits until it
// is ready.
func (r *Relay) Start() {
	r.c.t.Helper()
	r.Proc = r.Node.Start("nexd relay "+r.Name, r.Node.CommandAs(r.Node.UID, filepath.Join(r.c.bin, "nexd"), r.args...))
	Until(r.c.t, 20*time.Second, "nexd relay ready", func() error {
		if !r.Running() {
			return errors.New("it ended")
		}
		if out, err := r.Node.Try(5*time.Second, "curl", "-sSf", "http://"+relayOps+"/readyz"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}
