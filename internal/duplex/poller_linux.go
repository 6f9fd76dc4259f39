package duplex

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const pollBatch = 128

// slot is a pump's place in the poller: events carry it.
type slot struct {
	index      int32
	generation int32 // tells apart those who had the place
}

// poller wakes sleeping pumps when something happens on their host sockets. It is
// an epoll instance that itself waits in the runtime's poller, in one goroutine
// for all sockets.
type poller struct {
	file *os.File
	raw  syscall.RawConn
	fd   int
	done chan struct{} // closed when run has ended

	events [pollBatch]unix.EpollEvent
	n      int
	errno  syscall.Errno

	mu    sync.Mutex // guards the fields below
	pumps []place
	free  []int32
}

type place struct {
	pump       *pump
	generation int32
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, done: make(chan struct{})}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	return p, nil
}

// run wakes pumps until the poller is closed.
func (p *poller) run() {
	defer close(p.done)
	var ready [pollBatch]*pump
	for {
		if err := p.raw.Read(p.wait); err != nil || p.errno != 0 {
			return
		}
		p.mu.Lock()
		for i := range p.n {
			ev := &p.events[i]
			ready[i] = nil
			if at := &p.pumps[ev.Fd]; at.generation == ev.Pad {
				ready[i] = at.pump
			}
		}
		p.mu.Unlock()
		for i, pump := range ready[:p.n] {
			if pump != nil {
				pump.up.wake()
				ready[i] = nil
			}
		}
	}
}

// wait takes what is there; false: nothing.
func (p *poller) wait(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&p.events[0])), pollBatch, 0, 0, 0)
		switch errno {
		case 0:
			p.n, p.errno = int(n), 0
			return n > 0
		case unix.EINTR:
		default:
			p.n, p.errno = 0, errno
			return true
		}
	}
}

// add makes the poller wake u, once, when its socket has something to say, at
// once if it has now; with watching only if that is an error.
func (p *poller) add(u *pump, watching bool) error {
	p.mu.Lock()
	s := &u.slot
	if last := len(p.free) - 1; last >= 0 {
		s.index = p.free[last]
		p.free = p.free[:last]
	} else {
		s.index = int32(len(p.pumps))
		p.pumps = append(p.pumps, place{})
	}
	at := &p.pumps[s.index]
	at.pump, s.generation = u, at.generation
	p.mu.Unlock()
	events := uint32(unix.EPOLLONESHOT)
	if !watching {
		events |= unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI
	}
	err := p.control(u, unix.EPOLL_CTL_ADD, events)
	if err != nil {
		p.release(*s)
	}
	return err
}

// remove ends it. Events on their way may still arrive.
func (p *poller) remove(u *pump) {
	_ = p.control(u, unix.EPOLL_CTL_DEL, 0) // fails when the socket is closed
	p.release(u.slot)
}

func (p *poller) release(s slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pumps[s.index].pump = nil
	p.pumps[s.index].generation++
	p.free = append(p.free, s.index)
}

func (p *poller) control(u *pump, op int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: u.slot.index, Pad: u.slot.generation}
	var failed error
	err := u.raw.Control(func(fd uintptr) { failed = unix.EpollCtl(p.fd, op, int(fd), &ev) })
	if err == nil {
		err = failed
	}
	return err
}

func (p *poller) close() { _ = p.file.Close() }
