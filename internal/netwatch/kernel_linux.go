package netwatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// kernel is a netlink route socket (rtnetlink(7)) in the groups of changes.
type kernel struct {
	file *os.File
	raw  syscall.RawConn
	port uint32 // our netlink address: answers to our own questions have it

	closing sync.Once
	state   state // of run's goroutine, as is the next
	asked   int   // how many of the questions were sent
}

// questions fill the state: links, addresses, routes, one after another, as
// the kernel answers one at a time.
var questions = []uint16{unix.RTM_GETLINK, unix.RTM_GETADDR, unix.RTM_GETROUTE}

// openKernel opens the socket in the thread's namespace.
func openKernel() (source, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	k := &kernel{file: file, state: newState()}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	if err == nil {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(fd); err == nil {
			if own, ok := name.(*unix.SockaddrNetlink); ok {
				k.port = own.Pid
			}
			k.raw, err = file.SyscallConn()
		}
	}
	if err == nil {
		err = k.ask()
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("subscribe to network changes: %w", err)
	}
	return k, nil
}

func (k *kernel) close() { k.closing.Do(func() { k.file.Close() }) }

// ask sends the next question, if there is one.
func (k *kernel) ask() error {
	if k.asked == len(questions) {
		return nil
	}
	b := make([]byte, unix.NLMSG_HDRLEN+unix.SizeofRtMsg) // the longest of the three; AF_UNSPEC
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], questions[k.asked])
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], uint32(k.asked+1))
	k.asked++
	var failed error
	err := k.raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return failed != unix.EAGAIN
	})
	return errors.Join(err, failed)
}

// run reads until the socket is closed.
func (k *kernel) run(changed func(reason)) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := k.read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			// Some messages are lost: what we know may be wrong.
			changed(reasonAddress)
			k.state, k.asked = newState(), 0
			err = k.ask()
		case err == nil && from == 0:
			err = k.take(buf[:n], changed)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("read network changes: %w", err)
		}
	}
}

// read returns one datagram and the port it is from; 0 is the kernel.
func (k *kernel) read(buf []byte) (n int, from uint32, err error) {
	var failed error
	err = k.raw.Read(func(fd uintptr) bool {
		var sender unix.Sockaddr
		n, _, _, sender, failed = unix.Recvmsg(int(fd), buf, nil, 0)
		if s, ok := sender.(*unix.SockaddrNetlink); ok {
			from = s.Pid
		}
		return failed != unix.EAGAIN
	})
	return max(n, 0), from, errors.Join(err, failed)
}

// take reads the messages of a datagram.
func (k *kernel) take(b []byte, changed func(reason)) error {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		changed(reasonAddress) // cut off: as if lost
		return nil
	}
	for _, m := range messages {
		ours := m.Header.Pid == k.port
		switch m.Header.Type {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if ours && int(m.Header.Seq) == k.asked {
				if err := k.ask(); err != nil {
					return err
				}
			}
		default:
			if r := k.state.take(m); r != 0 && !ours {
				changed(r)
			}
		}
	}
	return nil
}
