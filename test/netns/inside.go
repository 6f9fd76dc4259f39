//go:build linux

package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inside runs open with its thread in the host's namespace. A socket belongs to
// the namespace it was opened in, so the test itself can be a client or a server
// there, from any goroutine. open must do its work in the calling goroutine.
func Inside[R any](h *Host, open func() (R, error)) (R, error) {
	var (
		result R
		err    error
		done   = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		var ns *os.File
		if ns, err = os.Open(filepath.Join(Dir, h.NS)); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter %s: %w", h.NS, err)
			return
		}
		result, err = open()
	}()
	<-done
	return result, err
}
