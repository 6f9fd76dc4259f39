//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nexd/test/netns"
)

const (
	// maxFrame is more than a TAP device of the default MTU ever gives.
	maxFrame = 2048
	// queueFrames is how many frames each direction of a wire holds; 50 ms of a
	// gigabit, or a second of 100 Mbit/s. What does not fit is lost.
	queueFrames = 8192
	// queueTime is how long a frame may wait for a bounded rate.
	queueTime = 50 * time.Millisecond
)

// wire is a cable in this program: two TAP devices and a delay between them.
// Both directions behave alike, and keep the order of frames.
type wire struct {
	delay, jitter atomic.Int64 // time.Duration
	rate          atomic.Int64 // bits per second; 0: no bound
	lost          atomic.Int64 // frames that did not fit

	ends   [2]*os.File
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// frame is on its way until due.
type frame struct {
	buf *[maxFrame]byte
	n   int
	due time.Time
}

var frames = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// newWire makes the devices portA at a and portB at b, and starts to carry
// frames between them; close ends it.
func newWire(a *netns.Host, portA string, b *netns.Host, portB string) (*wire, error) {
	w := &wire{}
	var err error
	if w.ends[0], err = openTap(a, portA); err != nil {
		return nil, err
	}
	if w.ends[1], err = openTap(b, portB); err != nil {
		w.ends[0].Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for i := range w.ends {
		queue := make(chan frame, queueFrames)
		w.wg.Go(func() { w.read(w.ends[i], queue) })
		w.wg.Go(func() { write(ctx, w.ends[1-i], queue) })
	}
	return w, nil
}

func (w *wire) shape(delay, jitter time.Duration) {
	w.delay.Store(int64(delay))
	w.jitter.Store(int64(jitter))
}

func (w *wire) bound(bits int64) { w.rate.Store(bits) }

// close ends the wire; its devices vanish.
func (w *wire) close() {
	w.cancel()
	for _, f := range w.ends {
		f.Close()
	}
	w.wg.Wait()
}

// read takes frames from a device and gives each its time, until the device is
// closed.
func (w *wire) read(from *os.File, queue chan<- frame) {
	defer close(queue)
	var sent, due time.Time // of the last frame: when it had left the sender, and arrives
	for {
		buf := frames.Get().(*[maxFrame]byte)
		n, err := from.Read(buf[:])
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // the device is down
			continue
		}
		now := time.Now()
		at := now
		if rate := w.rate.Load(); rate > 0 {
			if sent.Before(now) {
				sent = now
			}
			if sent.Sub(now) > queueTime {
				w.lost.Add(1)
				frames.Put(buf)
				continue
			}
			sent = sent.Add(time.Duration(int64(n) * 8 * int64(time.Second) / rate))
			at = sent
		}
		at = at.Add(time.Duration(w.delay.Load()))
		if j := w.jitter.Load(); j > 0 {
			at = at.Add(time.Duration(rand.Int64N(j)))
		}
		if at.Before(due) {
			at = due
		}
		select {
		case queue <- frame{buf, n, at}:
			due = at
		default:
			w.lost.Add(1)
			frames.Put(buf)
		}
	}
}

// write puts frames into a device when they are due, until the queue is closed.
func write(ctx context.Context, to *os.File, queue <-chan frame) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for f := range queue {
		if wait := time.Until(f.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		to.Write(f.buf[:f.n]) // a device that is down loses it, as a cable would
		frames.Put(f.buf)
	}
}

// openTap makes a TAP device in a host; it lives until the file is closed.
func openTap(h *netns.Host, name string) (*os.File, error) {
	return netns.Inside(h, func() (*os.File, error) {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open /dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
		return os.NewFile(uintptr(fd), name), nil
	})
}
