package netstack

import (
	"io"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// pieces is the state of one TryRead or ReadPieces. gVisor hands out what has arrived in
// calls to Write; three kinds of writer share this state.
type pieces struct {
	limit int // bytes to offer; so many are there
	take  func([][]byte) int
	list  [][]byte
	held  int // bytes in list
	taken bool
	n     int               // bytes that take dealt with
	left  int               // of these, still to be taken out of the queue
	sink  tcpip.SliceWriter // of TryRead
}

var piecesPool = sync.Pool{New: func() any { return &pieces{list: make([][]byte, 0, maxPieces)} }}

func (p *pieces) free() {
	clear(p.list)
	*p = pieces{list: p.list[:0]}
	piecesPool.Put(p)
}

// offer gives the list to take.
func (p *pieces) offer() {
	p.taken = true
	p.n = p.take(p.list)
}

// onePiece takes all there is if that is in the first piece, and nothing otherwise.
type onePiece pieces

func (o *onePiece) Write(b []byte) (int, error) {
	p := (*pieces)(o)
	if p.taken || len(b) < p.limit || p.limit == 0 {
		return 0, errEnough
	}
	p.list = append(p.list, b[:p.limit])
	p.offer()
	if p.n == len(b) {
		return p.n, nil
	}
	return p.n, errEnough
}

// allPieces only looks: it collects pieces, and offers them while the last one
// is looked at, when the connection is locked and none of them can go.
type allPieces pieces

func (a *allPieces) Write(b []byte) (int, error) {
	p := (*pieces)(a)
	part := b[:min(len(b), p.limit-p.held)]
	p.list = append(p.list, part)
	p.held += len(part)
	if p.held < p.limit && len(p.list) < maxPieces {
		return len(b), nil
	}
	p.offer()
	return 0, errEnough
}

// skip takes out what allPieces had taken.
type skip pieces

func (s *skip) Write(b []byte) (int, error) {
	n := min(len(b), s.left)
	s.left -= n
	if n < len(b) {
		return n, errEnough
	}
	return n, nil
}

// filler is the Payloader of one WriteFrom.
type filler struct {
	left int
	fill func([]byte) error
	err  error
}

var fillerPool = sync.Pool{New: func() any { return new(filler) }}

func (f *filler) free() {
	*f = filler{}
	fillerPool.Put(f)
}

// Len is exactly what Read yields: gVisor reads for ever where it is more.
func (f *filler) Len() int { return f.left }

func (f *filler) Read(b []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(len(b), f.left)]
	if len(b) == 0 {
		return 0, nil
	}
	if f.err = f.fill(b); f.err != nil {
		return 0, f.err
	}
	f.left -= len(b)
	return len(b), nil
}
