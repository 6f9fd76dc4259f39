package duplex

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// acceptorSys is what a listener of the host needs to sleep.
type acceptorSys struct {
	raw    syscall.RawConn
	asleep bool // slot is used
	slot   slot
}

// hostStep is how a TCP listener of the host is served.
func (a *acceptor) hostStep() (step func() bool, ok bool) {
	l, ok := a.ln.(*net.TCPListener)
	if !ok {
		return nil, false
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, false
	}
	a.sys.raw = raw
	return func() bool { return a.acceptWhileBusy(l) }, true
}

// acceptWhileBusy accepts until nothing has come for the QuietTime, and leaves the
// waiting to the poller then.
func (a *acceptor) acceptWhileBusy(l *net.TCPListener) bool {
	woken := a.sys.asleep // at first nothing is known to be there
	if woken {
		a.sys.asleep = false
		a.m.sys.poller.remove(a.sys.raw, a.sys.slot)
	}
	for busy := woken; busy; {
		busy = false
		_ = l.SetDeadline(time.Now().Add(a.m.QuietTime))
		for {
			c, err := l.Accept()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			busy = true
			if err == nil {
				a.accepted(c)
			} else if a.failed(err) {
				return true
			}
		}
	}
	poller, err := a.m.polling()
	if err == nil {
		a.sys.slot, err = poller.add(a.sys.raw, &a.errand, pollRead)
	}
	if err != nil { // closed, or descriptors or memory are short: wait here
		_ = l.SetDeadline(time.Time{})
		return a.block()
	}
	a.sys.asleep = true
	return false
}
