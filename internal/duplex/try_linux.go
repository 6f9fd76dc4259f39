package duplex

import (
	"errors"
	"io"
	"slices"
	"syscall"
)

// maxStep is how much one step moves at most: the stack is locked meanwhile and
// handles no acknowledgement.
const maxStep = 256 << 10

// upTry moves from the host socket to the mesh until the socket is empty (false)
// or the flow has to stop (true). It is called by RawConn.Read.
func (p *pump) upTry(fd uintptr) bool {
	f := &p.up
	k := kits.Get().(*kit)
	defer k.free()
	k.fd = fd
	for {
		switch {
		case f.halted():
			f.ended = true
			return true
		case f.watching:
			// A unix socket whose peer has closed says so without end, and nothing else
			// any more. An error that there is was there before the end: it is asked for last.
			over := k.hungUp()
			f.ended = p.sourceBroke(k.socketError())
			return f.ended || over
		case len(f.pending) > 0:
			if !f.pass(k, f.pending) {
				return true
			}
		case f.bulk && k.queued() >= len(k.small):
			if !f.passQueued(k, min(k.n, maxStep)) {
				return true
			}
		default:
			// Little at a time is copied: less work than to ask first how much it is.
			n, err := k.recv(k.small[:])
			if errors.Is(err, syscall.EAGAIN) {
				f.bulk = false
				return false
			}
			if err == nil && n == 0 {
				err = io.EOF
			}
			if err != nil {
				f.ended = p.sourceEnded(f, p.mesh, err)
				return true
			}
			f.bulk = n == len(k.small)
			if !f.pass(k, k.small[:n]) {
				return true
			}
		}
	}
}

// pass writes b, which has been read, to the mesh, and keeps what that does not
// take now. It reports whether it took all.
func (f *flow) pass(k *kit, b []byte) bool {
	k.rest = b
	n, err := f.p.mesh.WriteFrom(len(b), k.give)
	f.wrote(n, err)
	if f.stuck = n < len(b); f.stuck {
		f.pending = slices.Clone(b[n:])
		return false
	}
	f.pending = nil
	return !f.ended
}

// passQueued moves bytes that wait in the socket to the mesh, and reports
// whether it took all.
func (f *flow) passQueued(k *kit, most int) bool {
	n, err := f.p.mesh.WriteFrom(most, k.fill)
	f.wrote(n, err)
	f.stuck = n < most
	return !f.stuck && !f.ended
}

func (f *flow) wrote(n int, err error) {
	f.count(n)
	if err != nil {
		f.p.writeFailed(f, &f.p.down, err)
		f.ended = true
	}
}

// downTry moves from the mesh to the host socket until there is nothing more or
// the flow is over (true), or the socket takes no more (false). It is called by
// RawConn.Write.
func (p *pump) downTry(fd uintptr) bool {
	f := &p.down
	k := kits.Get().(*kit)
	defer k.free()
	k.fd = fd
	for {
		var (
			n   int
			err error
		)
		k.err = nil
		switch {
		case f.halted():
			f.ended = true
			return true
		case len(f.pending) > 0:
			n = k.sendAll(f.pending)
			if f.pending = f.pending[n:]; len(f.pending) == 0 {
				f.pending = nil
			}
			f.count(n)
		case f.bulk:
			n, err = p.mesh.ReadPieces(maxStep, k.take)
			f.count(n)
			f.bulk = n >= len(k.small)
		default:
			// Little at a time is copied, so that the stream is not locked meanwhile.
			if n, err = p.mesh.TryRead(k.small[:]); n > 0 {
				f.bulk = n == len(k.small)
				sent := k.sendAll(k.small[:n])
				if sent < n {
					f.pending = slices.Clone(k.small[sent:n])
				}
				f.count(sent)
			}
		}
		f.stuck = k.err != nil
		switch {
		case errors.Is(k.err, syscall.EAGAIN):
			return false
		case k.err != nil:
			p.writeFailed(f, &p.up, k.err)
			f.ended = true
			return true
		case err != nil:
			f.ended = p.sourceEnded(f, p.host, err)
			return true
		case n == 0:
			return true
		}
	}
}
