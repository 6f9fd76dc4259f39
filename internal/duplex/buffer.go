package duplex

import "sync"

// A direction reads into a small buffer until a read fills it, then into a
// big one until reads have stayed small for a while: ten thousand quiet
// connections cost 80 MB of buffers, not 1.3 GB.
const (
	smallBuffer = 4 << 10
	bigBuffer   = 64 << 10
	quietReads  = 16 // small reads in a row that give the big buffer back
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	bigBuffers   = sync.Pool{New: func() any { return new([bigBuffer]byte) }}
)

type buffer struct {
	small *[smallBuffer]byte
	big   *[bigBuffer]byte
	quiet int
}

func newBuffer() *buffer {
	return &buffer{small: smallBuffers.Get().(*[smallBuffer]byte)}
}

// space is where the next read goes; its content is void after adapt.
func (b *buffer) space() []byte {
	if b.big != nil {
		return b.big[:]
	}
	return b.small[:]
}

// adapt chooses the buffer of the next read after one of n bytes.
func (b *buffer) adapt(n int) {
	switch {
	case b.big == nil && n == smallBuffer:
		b.big, b.quiet = bigBuffers.Get().(*[bigBuffer]byte), 0
	case b.big != nil && n > smallBuffer:
		b.quiet = 0
	case b.big != nil:
		if b.quiet++; b.quiet >= quietReads {
			bigBuffers.Put(b.big)
			b.big = nil
		}
	}
}

func (b *buffer) release() {
	smallBuffers.Put(b.small)
	if b.big != nil {
		bigBuffers.Put(b.big)
	}
	b.small, b.big = nil, nil
}
