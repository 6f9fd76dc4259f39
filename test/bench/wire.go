package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a cable between two TAP devices in this process: it delays frames and
// loses some. Its devices announce no offloads, so the kernel cuts what is
// larger than a packet before it comes here, and one frame is one packet.
type wire struct {
	loss atomic.Pointer[losses]
}

// losses is what becomes of frames: a share of them is lost, the same ones
// whenever the seed is the same.
type losses struct {
	share float64
	seed  uint64
}

// WireArgs says how long a frame takes from one end to the other.
type WireArgs struct{ Delay time.Duration }

// The devices as they are called in the namespace of the agent.
var wireEnds = [2]string{"wire0", "wire1"}

// Wire makes this agent a cable.
func (a *Agent) Wire(args WireArgs, _ *Nothing) error {
	if a.wire != nil {
		return errors.New("it is a cable already")
	}
	var ends [2]*os.File
	for i, name := range wireEnds {
		var err error
		if ends[i], err = openTAP(name); err != nil {
			return err
		}
	}
	w := &wire{}
	w.loss.Store(&losses{})
	for i := range ends {
		queue := make(chan frame, 8192) // a second of 100 Mbit/s; what does not fit is lost
		go w.read(ends[i], uint64(i), args.Delay, queue)
		go deliver(ends[1-i], queue)
	}
	a.wire = w
	return nil
}

// Loss is the share of frames lost in each direction, and which.
type Loss struct {
	Share float64
	Seed  uint64
}

// Lose sets it.
func (a *Agent) Lose(l Loss, _ *Nothing) error {
	if a.wire == nil {
		return errors.New("it is no cable")
	}
	a.wire.loss.Store(&losses{l.Share, l.Seed})
	return nil
}

// frame is on its way until due.
type frame struct {
	bytes []byte
	due   time.Time
}

// maxFrame is more than such a device ever gives.
const maxFrame = 2048

func (w *wire) read(from *os.File, end uint64, delay time.Duration, queue chan<- frame) {
	var (
		free []byte
		set  *losses
		dice *rand.Rand
	)
	for {
		if len(free) < maxFrame {
			free = make([]byte, 256<<10)
		}
		n, err := from.Read(free[:maxFrame:maxFrame])
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // the device is down
			continue
		}
		if l := w.loss.Load(); l != set {
			set, dice = l, rand.New(rand.NewPCG(l.seed, end))
		}
		if set.share > 0 && dice.Float64() < set.share {
			continue
		}
		select {
		case queue <- frame{free[:n:n], time.Now().Add(delay)}:
			free = free[n:]
		default:
		}
	}
}

func deliver(to *os.File, queue <-chan frame) {
	for f := range queue {
		if wait := time.Until(f.due); wait > 0 {
			time.Sleep(wait)
		}
		to.Write(f.bytes) // a device that is down loses it, as a cable would
	}
}

// openTAP makes a TAP device; it lives until the file is closed.
func openTAP(name string) (*os.File, error) {
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
}
