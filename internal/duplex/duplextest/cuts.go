package duplextest

import (
	"bytes"
	"io"
	"testing"
	"time"

	"nexd/internal/duplex"
)

// restTime is more than the second after which streams are at rest.
const restTime = 1100 * time.Millisecond

func cutQuiet(_ *testing.T, r *rig) {
	r.start(0, false, false)
	r.send(r.client, "x")
	r.expect(r.server, "x")
	time.Sleep(restTime) // it is the time that counts
	r.cancel()
	r.expectEOF(r.client)
	r.expectEOF(r.server)
	r.ends(duplex.Cut)
}

// cutBusy: bytes were taken from the client that the server does not read.
func cutBusy(t *testing.T, r *rig) {
	r.start(0, false, true)
	go func() { _, _ = io.Copy(r.client, endless{}) }()
	// Wait until nothing has moved for a while: every buffer is full.
	const looks = 5
	for last, still := int64(0), 0; still < looks; {
		time.Sleep(100 * time.Millisecond)
		n := r.ab.Load()
		if still++; n != last || n == 0 {
			last, still = n, 0
		}
	}
	r.cancel()
	r.ends(duplex.Cut)
	if n, err := io.Copy(io.Discard, r.server); err == nil {
		t.Errorf("the server took %d bytes of a cut stream for a whole one", n)
	}
}

// cutMoving: all that was sent has arrived, and more was to come.
func cutMoving(t *testing.T, r *rig) {
	for try := 1; ; try++ {
		r.start(0, false, true)
		began := time.Now()
		r.send(r.client, "the first part")
		r.expect(r.server, "the first part")
		r.cancel()
		r.ends(duplex.Cut)
		if time.Since(began) < restTime/2 { // else the machine stood still
			break
		}
		if try == 10 {
			t.Fatal("the machine is too slow to tell")
		}
		r.stop()
		r.ab.Store(0)
	}
	r.expectReset(r.server)
	r.expectReset(r.client)
}

// cutHalf: the client has said all and waits for the rest of the answer, however
// long that takes.
func cutHalf(_ *testing.T, r *rig) {
	r.start(0, true, true)
	r.send(r.client, "question")
	r.closeWrite(r.client)
	r.expect(r.server, "question")
	r.expectEOF(r.server)
	r.send(r.server, "the first part")
	r.expect(r.client, "the first part")
	time.Sleep(restTime)
	r.cancel()
	r.ends(duplex.Cut)
	r.expectReset(r.client)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{'x'}, min(len(p), 1024)))
	return len(p), nil
}
