//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"nexd/test/netns"
)

// Operations on the kernel's connection tracking table (ctnetlink).
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
)

// flushFlows empties the table of a host, as conntrack -F does.
func flushFlows(h *netns.Host) error { return ctnetlink(h, ctDelete, unix.NLM_F_ACK) }

// collectFlows lists the table of a host, by which the kernel drops what has
// timed out.
func collectFlows(h *netns.Host) error { return ctnetlink(h, ctGet, unix.NLM_F_DUMP) }

// ctnetlink sends one message without attributes to the table of a host and
// reads the answer to its end.
func ctnetlink(h *netns.Host, op, flags uint16) error {
	const size = unix.SizeofNlMsghdr + 4 // with an nfgenmsg of zeroes: any family
	_, err := netns.Inside(h, func() (struct{}, error) {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return struct{}{}, err
		}
		defer unix.Close(fd)
		msg := make([]byte, size)
		binary.NativeEndian.PutUint32(msg, size)
		binary.NativeEndian.PutUint16(msg[4:], op)
		binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|flags)
		if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return struct{}{}, err
		}
		answer := make([]byte, 1<<16)
		for {
			n, _, err := unix.Recvfrom(fd, answer, 0)
			if err != nil {
				return struct{}{}, err
			}
			if done, err := netlinkEnd(answer[:n]); done || err != nil {
				return struct{}{}, err
			}
		}
	})
	return err
}

// netlinkEnd reports whether the messages end an answer, and the error they tell.
func netlinkEnd(b []byte) (bool, error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			break
		}
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if size < unix.SizeofNlMsghdr+4 {
				return false, errors.New("netlink: a short error")
			}
			if errno := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); errno != 0 {
				return false, fmt.Errorf("netlink: %w", unix.Errno(-errno))
			}
			return true, nil
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}
