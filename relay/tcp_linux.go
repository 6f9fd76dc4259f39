package relay

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tcpConn is a TCP connection below TLS. Its reads and writes do not block and
// are not announced to the scheduler, which under load would take the
// processor away in the midst of most of them and give it to another thread.
// Between hold and release writes wait, and leave together.
type tcpConn struct {
	*net.TCPConn
	raw syscall.RawConn

	in struct {
		sync.Mutex
		b     []byte
		n     int
		errno syscall.Errno
		call  func(fd uintptr) bool // made once
	}
	out struct {
		sync.Mutex
		held  *[]byte // of writes that wait; nil: none do
		b     []byte
		errno syscall.Errno
		call  func(fd uintptr) bool
	}
}

// quiet returns c, as a tcpConn if it is a TCP connection.
func quiet(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	q := &tcpConn{TCPConn: tcp, raw: raw}
	q.in.call, q.out.call = q.receive, q.send
	return q
}

// Read implements [net.Conn].
func (c *tcpConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.in.Lock()
	defer c.in.Unlock()
	c.in.b, c.in.n, c.in.errno = b, 0, 0
	err := c.raw.Read(c.in.call)
	c.in.b = nil
	switch {
	case err != nil:
		return 0, err
	case c.in.errno != 0:
		return 0, c.failed("read", c.in.errno)
	case c.in.n == 0:
		return 0, io.EOF
	}
	return c.in.n, nil
}

// receive is for a RawConn: false means that nothing has come yet.
func (c *tcpConn) receive(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&c.in.b[0])), uintptr(len(c.in.b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			c.in.n = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			c.in.errno = errno
			return true
		}
	}
}

// Write implements [net.Conn].
func (c *tcpConn) Write(b []byte) (int, error) {
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.held != nil {
		if held := *c.out.held; len(held)+len(b) <= cap(held) {
			*c.out.held = append(held, b...)
			return len(b), nil
		}
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return c.write(b)
}

// write writes all of b; the caller holds the lock.
func (c *tcpConn) write(b []byte) (int, error) {
	c.out.b, c.out.errno = b, 0
	err := error(nil)
	if len(b) > 0 {
		err = c.raw.Write(c.out.call)
	}
	n := len(b) - len(c.out.b)
	c.out.b = nil
	if err == nil && c.out.errno != 0 {
		err = c.failed("write", c.out.errno)
	}
	return n, err
}

// send is for a RawConn: false means that the socket is full.
func (c *tcpConn) send(fd uintptr) bool {
	for len(c.out.b) > 0 {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&c.out.b[0])), uintptr(len(c.out.b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			c.out.b = c.out.b[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			c.out.errno = errno
			return true
		}
	}
	return true
}

func (c *tcpConn) failed(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// holdSize is what writes of together messages take, with what TLS adds.
const holdSize = together * (writeChunk + 256)

var holds = sync.Pool{New: func() any { b := make([]byte, 0, holdSize); return &b }}

// hold lets writes wait for release. They are not many: what is more than
// holdSize leaves at once.
func (c *tcpConn) hold() {
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.held == nil {
		c.out.held = holds.Get().(*[]byte)
	}
}

// release writes what waits.
func (c *tcpConn) release() error {
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.held == nil {
		return nil
	}
	err := c.flush()
	holds.Put(c.out.held)
	c.out.held = nil
	return err
}

// flush writes what waits; the caller holds the lock.
func (c *tcpConn) flush() error {
	held := *c.out.held
	*c.out.held = held[:0]
	_, err := c.write(held)
	return err
}

// ReadFrom hides that of the TCP connection, which knows nothing of hold.
func (c *tcpConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// WriteTo hides that of the TCP connection.
func (c *tcpConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}
