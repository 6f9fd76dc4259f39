package duplex

import "net"

// resetAwaiter is a stream of a user-space stack that can tell of a RST while
// nothing is read or written: AwaitReset waits, after the FIN, for the RST and
// returns it as an error, or nil when there will be none, the stream was closed
// or its read deadline passed.
type resetAwaiter interface{ AwaitReset() error }

// watchReset waits, after src has sent its FIN, for its RST and returns it as
// an error. It returns nil when src is closed or gets a read deadline that has
// passed, and at once for streams it cannot watch.
func watchReset(src net.Conn) error {
	if s, ok := src.(resetAwaiter); ok {
		return s.AwaitReset()
	}
	return watchHost(src)
}
