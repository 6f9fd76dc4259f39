package localapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// MaxWait is the longest a single wait request may last.
const MaxWait = 24 * time.Hour

// Condition is what can be waited for: the node being ready, or a direct path
// to a peer. The zero value is no condition.
type Condition struct {
	// Peer is the name, id, address or public key a direct path is wanted to;
	// empty: ready is wanted.
	Peer  string
	valid bool
}

// ParseCondition reads "ready" or "direct:PEER".
func ParseCondition(s string) (Condition, error) {
	if s == "ready" {
		return Condition{valid: true}, nil
	}
	if peer, ok := strings.CutPrefix(s, "direct:"); ok && peer != "" && len(peer) <= maxPeerName {
		return Condition{Peer: peer, valid: true}, nil
	}
	return Condition{}, &UserError{
		Message: fmt.Sprintf("cannot wait for %q", short(s)),
		Hint:    "wait for ready, or for direct:PEER with the name of a peer",
	}
}

// String is the inverse of [ParseCondition].
func (c Condition) String() string {
	switch {
	case !c.valid:
		return ""
	case c.Peer == "":
		return "ready"
	}
	return "direct:" + c.Peer
}

// met reports whether st fulfils the condition, and if not, why.
func (c Condition) met(st Status) (ok bool, why string) {
	if c.Peer == "" {
		if st.Ready {
			return true, ""
		}
		if len(st.Reasons) == 0 {
			return false, "state is " + st.State
		}
		return false, strings.Join(st.Reasons, "; ")
	}
	for _, p := range st.Peers {
		if !p.is(c.Peer) {
			continue
		}
		if p.Path.Kind == PathDirect {
			return true, ""
		}
		return false, fmt.Sprintf("the path to %s is %s", p.Name, p.Path.Kind)
	}
	return false, fmt.Sprintf("no peer %s is known: nexctl nexd peers list names them", c.Peer)
}

// is reports whether s names the peer.
func (p PeerStatus) is(s string) bool {
	short, _, _ := strings.Cut(s, ".")
	if s == p.Name || s == p.ID || s == p.PublicKey.String() || short == p.Name {
		return true
	}
	for _, a := range p.Addresses {
		if a.String() == s {
			return true
		}
	}
	return false
}

func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	cond, err := ParseCondition(r.URL.Query().Get("for"))
	if err != nil {
		refuse(w, err)
		return
	}
	timeout := MaxWait
	if text := r.URL.Query().Get("timeout"); text != "" {
		timeout, err = time.ParseDuration(text)
		if err != nil || timeout <= 0 || timeout > MaxWait {
			refuse(w, &UserError{Message: fmt.Sprintf("timeout %q of the wait", text), Hint: fmt.Sprintf("write a duration such as 30s, at most %s", MaxWait)})
			return
		}
	}
	// The answer may take longer than the server's timeouts allow others.
	rc := http.NewResponseController(w)
	_ = errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}))

	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	st, why := s.await(ctx, cond)
	cancel()
	_ = rc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	switch {
	case why == "":
		reply(w, st)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		refuse(w, &Problem{Message: fmt.Sprintf("not %s in time: %s", cond, why), Status: http.StatusGatewayTimeout})
	default:
		refuse(w, &Problem{Message: fmt.Sprintf("not %s, and the daemon stops: %s", cond, why), Status: http.StatusServiceUnavailable})
	}
}

// await returns when the condition is met, with why empty, or when ctx ends.
// A path is looked for only when something wants it, so waiting for a direct
// one sends a ping now and then.
func (s *Server) await(ctx context.Context, cond Condition) (st Status, why string) {
	if cond.Peer != "" {
		nudge, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { s.nudge(nudge, cond.Peer) })
		defer wg.Wait()
		defer stop()
	}
	for {
		changed := s.cfg.Daemon.Changed()
		st = whole(s.cfg.Daemon.Status())
		ok, why := cond.met(st)
		if ok {
			return st, ""
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return st, why
		}
	}
}

// nudge pings a peer every second until ctx ends.
func (s *Server) nudge(ctx context.Context, peer string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		// Only the packet matters here; what is wrong shows in the status.
		_, _ = s.cfg.Daemon.Ping(once, peer)
		cancel()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
