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

// What wakes an errand, once: something to read or accept, or an error only.
const (
	pollRead   = unix.EPOLLONESHOT | unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI
	pollErrors = unix.EPOLLONESHOT
)

// slot is a place in the poller: events carry it.
type slot struct {
	index      int32
	generation int32 // tells apart those who had it
}

// poller wakes errands when something happens on their host sockets. It is
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

	mu     sync.Mutex // guards the fields below
	places []place
	free   []int32
}

type place struct {
	errand     *errand
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

// run wakes errands until the poller is closed.
func (p *poller) run() {
	defer close(p.done)
	var ready [pollBatch]*errand
	for {
		if err := p.raw.Read(p.wait); err != nil || p.errno != 0 {
			return
		}
		p.mu.Lock()
		for i := range p.n {
			ev := &p.events[i]
			ready[i] = nil
			if at := &p.places[ev.Fd]; at.generation == ev.Pad {
				ready[i] = at.errand
			}
		}
		p.mu.Unlock()
		for i, errand := range ready[:p.n] {
			if errand != nil {
				errand.wake()
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

// add makes the poller wake e, once, when one of the events happens on a socket,
// at once if it has happened.
func (p *poller) add(raw syscall.RawConn, e *errand, events uint32) (slot, error) {
	p.mu.Lock()
	var s slot
	if last := len(p.free) - 1; last >= 0 {
		s.index = p.free[last]
		p.free = p.free[:last]
	} else {
		s.index = int32(len(p.places))
		p.places = append(p.places, place{})
	}
	at := &p.places[s.index]
	at.errand, s.generation = e, at.generation
	p.mu.Unlock()
	err := p.control(raw, s, unix.EPOLL_CTL_ADD, events)
	if err != nil {
		p.release(s)
	}
	return s, err
}

// remove ends it. Events on their way may still arrive.
func (p *poller) remove(raw syscall.RawConn, s slot) {
	_ = p.control(raw, s, unix.EPOLL_CTL_DEL, 0) // fails when the socket is closed
	p.release(s)
}

func (p *poller) release(s slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places[s.index].errand = nil
	p.places[s.index].generation++
	p.free = append(p.free, s.index)
}

func (p *poller) control(raw syscall.RawConn, s slot, op int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: s.index, Pad: s.generation}
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.EpollCtl(p.fd, op, int(fd), &ev) })
	if err == nil {
		err = failed
	}
	return err
}

func (p *poller) close() { _ = p.file.Close() }
