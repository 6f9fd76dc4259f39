// Package duplex copies between two byte streams that can be closed one
// direction at a time, so that whatever one side says by bytes, FIN or RST
// reaches the other side as the same thing.
//
// It is not a proxy: it neither listens nor dials, and knows nothing of rules.
//
// What happens on one stream, and what the other one sees ("the other" is the
// stream opposite to the one where it happened):
//
//	seen on one stream          done
//	--------------------------  -----------------------------------------------
//	bytes                       written to the other, in order, no byte twice
//	FIN (io.EOF)                CloseWrite on the other after the last byte; the
//	                            opposite direction goes on for as long as it likes
//	FIN, the other cannot       the other is closed: a stream without half-close
//	half-close                  has no other way to be told
//	FIN from both               both closed, nothing is discarded: Finished
//	RST while reading           the other is reset at once: Reset
//	RST or EPIPE while writing  what that side had sent before is still delivered
//	                            (bounded by one second), then the other is reset
//	RST after its own FIN       the other is reset: at once where the stream can
//	                            tell (mesh connections, host TCP sockets on
//	                            Linux), with the next write on others
//	no byte either way for      both closed: Idle
//	Options.IdleTimeout
//	context ended, both at      both closed: Cut
//	rest
//	context ended, else         each is reset unless the other's FIN was passed on
//	                            to it: Cut
//
// Both are at rest when no byte has moved for a second, neither has sent a FIN and
// none has bytes that the other does not take: so are connections between two
// requests. A stream that is closed while a byte for it was read and could not be
// written any more is reset, not finished. So nobody takes a cut stream for a
// whole one, as far as a stream can say so: unix sockets know no RST, and see it
// closed. In every other case Close leaves queued bytes and the FIN to the stack
// below.
//
// There are two loops. [Copy] takes any streams: two goroutines, each with a
// buffer. A [Mover] has many pairs, and where one stream is a host socket and the
// other can be moved without waiting, no buffer lies between and a quiet pair has
// no goroutine; mover.go, pump_linux.go (the two directions of a pair) and
// try_linux.go (one step of each). Its idle parts wait in poller_linux.go or are
// told by the user-space stack, and run in a crew of goroutines that are used
// again ([Errand]). Listeners are served in the same way ([Mover.Accept]).
//
// Main types: [Copy], [Mover], [Options], [Result], [End]. The suite that both
// loops pass, and any other must, is in duplextest.
package duplex
