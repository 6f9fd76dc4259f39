package netstack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// waits is what the blocked calls of a Conn need. Most connections of a proxy
// never have a blocked call, so it is made by the first.
type waits struct {
	done chan struct{} // closed by Close and Reset

	readable     <-chan struct{}
	readEntry    waiter.Entry
	readDeadline deadline
	sink         tcpip.SliceWriter // guarded by Conn.readMu

	writable      <-chan struct{}
	writeEntry    waiter.Entry
	writeDeadline deadline
}

// trouble is of interest to everybody who waits.
const trouble = waiter.EventErr | waiter.EventHUp

// waiting returns what a call needs to block, made and registered if it is the
// first one.
func (c *Conn) waiting() *waits {
	if w := c.waits.Load(); w != nil {
		return w
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.waits.Load(); w != nil {
		return w
	}
	w := &waits{done: make(chan struct{})}
	w.readDeadline.init()
	w.writeDeadline.init()
	w.readEntry, w.readable = channelEntry(waiter.ReadableEvents | trouble)
	w.writeEntry, w.writable = channelEntry(waiter.WritableEvents | trouble)
	if c.closed.Load() {
		close(w.done)
		return w
	}
	c.events.EventRegister(&w.readEntry)
	c.events.EventRegister(&w.writeEntry)
	c.waits.Store(w)
	return w
}

// end lets gVisor and the clock forget w.
func (w *waits) end(events *waiter.Queue) {
	events.EventUnregister(&w.readEntry)
	events.EventUnregister(&w.writeEntry)
	w.readDeadline.set(time.Time{})
	w.writeDeadline.set(time.Time{})
}

func channelEntry(mask waiter.EventMask) (waiter.Entry, <-chan struct{}) {
	entry, c := waiter.NewChannelEntry(mask)
	return entry, c
}
