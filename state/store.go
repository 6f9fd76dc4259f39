package state

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"nexd/internal/logkey"
)

// Store holds the state of one node. Its methods are safe for concurrent use.
type Store struct {
	disk *disk // nil: nothing is kept

	// turn holds a token while one goroutine changes and writes the content, so
	// that files follow each other in the order of the changes.
	turn   chan struct{}
	closed bool // holding turn

	mu   sync.Mutex // guards data; never held during I/O
	data Data
}

// Open makes the directory when it is missing, locks it and loads its content.
// It returns a [*LockedError] while another daemon has the directory, and a
// [*FileError] when its file is not understood. The caller closes the store.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	d, err := openDisk(dir, log)
	if err != nil {
		return nil, err
	}
	data, err := d.load()
	if err != nil {
		d.close()
		return nil, err
	}
	log.Debug("state opened", logkey.File, d.file())
	return &Store{disk: d, turn: make(chan struct{}, 1), data: data}, nil
}

// Memory returns a store that keeps nothing.
func Memory() *Store {
	return &Store{turn: make(chan struct{}, 1), data: Data{Version: Version}}
}

// Dir returns the directory, absolute; empty for a store in memory.
func (s *Store) Dir() string {
	if s.disk == nil {
		return ""
	}
	return s.disk.dir
}

// String names the store, not its content.
func (s *Store) String() string { return "state in " + cmp.Or(s.Dir(), "memory") }

// Data returns the content; the caller owns the copy.
func (s *Store) Data() Data {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.Clone()
}

// Update calls change with a copy of the content, takes it over, and returns
// when it is durable. The copy shares nothing with the store afterwards. Content
// that cannot be encoded is refused and changes nothing. When the file cannot
// be written it stays the old one, memory has the new content all the same, and
// the next Update or Close writes all of it. Change must not call Update.
func (s *Store) Update(change func(*Data)) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed {
		return fmt.Errorf("update state: %w", os.ErrClosed)
	}
	d := s.Data()
	change(&d)
	d.Version = Version
	b, err := encode(d)
	if err != nil {
		return err
	}
	d = d.Clone() // change may have kept what it put in
	s.mu.Lock()
	s.data = d
	s.mu.Unlock()
	return s.write(b)
}

// write makes the bytes of the content durable; the caller has the turn.
func (s *Store) write(b []byte) error {
	if s.disk == nil {
		return nil
	}
	if err := s.disk.save(b); err != nil {
		return fmt.Errorf("write %s: %w: the change is kept in memory and written with the next one", s.disk.file(), err)
	}
	return nil
}

// Close writes what could not be written before, and gives the directory free.
// Closing twice is the same as closing once.
func (s *Store) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed || s.disk == nil {
		s.closed = true
		return nil
	}
	s.closed = true
	var err error
	if s.disk.behind {
		var b []byte
		if b, err = encode(s.Data()); err == nil {
			err = s.write(b)
		}
	}
	return errors.Join(err, s.disk.close())
}
