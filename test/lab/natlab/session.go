package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// session stands in for a test: what cannot be done ends a command, not the
// program.
type session struct {
	out io.Writer

	mu       sync.Mutex
	cleanups []func() // mu guards it
}

// stop is what Fatalf panics with; try catches it.
type stop struct{ message string }

func (s *session) Helper()      {}
func (s *session) Failed() bool { return false }

func (s *session) Logf(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *session) Fatalf(format string, args ...any) { panic(stop{fmt.Sprintf(format, args...)}) }

func (s *session) Skipf(format string, args ...any) { s.Fatalf(format, args...) }

func (s *session) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// try does something and returns what Fatalf said of it.
func (s *session) try(do func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			why, ok := r.(stop)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("%s", why.message)
		}
	}()
	do()
	return nil
}

// end does the clean-up, the last registered first.
func (s *session) end() {
	s.mu.Lock()
	cleanups := s.cleanups
	s.cleanups = nil
	s.mu.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f()
	}
}
