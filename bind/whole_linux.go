package bind

import (
	"net"

	"golang.org/x/sys/unix"
)

// wholeOn calls do while a socket sends nothing in fragments and sets the bit
// that forbids routers to (RFC 8899 section 4.1). The kernel then refuses what is
// longer than the interface's MTU or than a router said it passes, as RFC 8899
// section 4.6 has it: what it does not refuse, it does not cut at other times either.
func wholeOn(c *net.UDPConn, do func() error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	level, option, never := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if local, _ := c.LocalAddr().(*net.UDPAddr); local != nil && local.IP.To4() == nil {
		level, option, never = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	usual := 0
	set := func(value int) error {
		var err error
		if e := raw.Control(func(fd uintptr) {
			if value == never {
				if usual, err = unix.GetsockoptInt(int(fd), level, option); err != nil {
					return
				}
			}
			err = unix.SetsockoptInt(int(fd), level, option, value)
		}); e != nil {
			return e
		}
		return err
	}
	if err := set(never); err != nil {
		return err
	}
	err = do()
	if e := set(usual); err == nil {
		err = e
	}
	return err
}
