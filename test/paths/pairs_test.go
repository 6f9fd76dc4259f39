//go:build linux

package paths

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"nexd/localapi"
	"nexd/test/lab"
)

// Every pair of kinds exchanges data; where the theory of hole punching has a
// direct path, the pair finds it, and nowhere else.
func TestPairs(t *testing.T) {
	t.Parallel()
	w := New(t)
	kinds := lab.Kinds()
	var left, right []*Member
	var sites [2][]*lab.Site
	for _, k := range kinds {
		for side := range sites {
			s := w.Site(k, lab.Options{})
			if k == lab.LinuxOpen {
				s.Latency(50*time.Millisecond, 0, 0) // first checks cross on their way
			}
			sites[side] = append(sites[side], s)
		}
	}
	for _, s := range sites[1] {
		Serve(t, s.Node(1).Host)
		right = append(right, w.Join(s.Node(1)))
	}
	for i, s := range sites[0] {
		var rules []string
		for j := i; j < len(right); j++ {
			rules = append(rules, "--egress", fmt.Sprintf("tcp:%d:%s:%d", 7100+j, right[j].Name, AppPort))
		}
		left = append(left, w.Join(s.Node(1), rules...))
	}
	ready(append(left, right...)...)
	onRelay(t, append(left, right...)...)

	var pairs, data, direct, byRelay atomic.Int32
	var g errgroup.Group
	g.SetLimit(10)
	for i, a := range left {
		for j := i; j < len(right); j++ {
			b := right[j]
			want := localapi.PathRelay
			if lab.Punchable(kinds[i], kinds[j]) {
				want = localapi.PathDirect
			}
			g.Go(func() error {
				pairs.Add(1)
				name := kinds[i].String() + " × " + kinds[j].String()
				begun := time.Now()
				c, err := dial(a.At.Host, "tcp", 7100+j)
				if err == nil {
					defer c.Close()
					err = echoes(c, 20*time.Second)
				}
				if err != nil {
					t.Errorf("%s: no data: %v", name, err)
					return nil
				}
				data.Add(1)
				first := time.Since(begun)
				stop := murmur(c)
				defer stop()
				if want == localapi.PathRelay {
					<-time.After(8 * time.Second) // a round of looking for a direct path ends
				}
				if err := Reaches(a, b, want, time.Minute); err != nil {
					t.Errorf("%s: data after %s; %v", name, first.Round(time.Millisecond), err)
					return nil
				}
				if want == localapi.PathDirect {
					direct.Add(1)
				} else {
					byRelay.Add(1)
				}
				t.Logf("%-34s data after %s, %s after %s", name, first.Round(time.Millisecond), want, time.Since(begun).Round(time.Millisecond))
				return nil
			})
		}
	}
	g.Wait()
	t.Logf("%d pairs: %d exchanged data, %d are direct, %d are relayed", pairs.Load(), data.Load(), direct.Load(), byRelay.Load())
}

// echoes wants one byte back.
func echoes(c net.Conn, limit time.Duration) error {
	c.SetDeadline(time.Now().Add(limit))
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// murmur says something every 100 ms, so that the pair is one in use, until
// stop.
func murmur(c net.Conn) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	c.SetDeadline(time.Time{})
	go io.Copy(io.Discard, c)
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if _, err := c.Write([]byte{1}); err != nil {
					return
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
