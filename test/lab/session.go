//go:build linux

package lab

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// Session stands in for a test in a program: it is a netns.T. What cannot be
// done ends the work that [Session.Try] runs, not the program. Fatalf may be
// called by the goroutine of Try alone.
type Session struct {
	out io.Writer

	mu       sync.Mutex
	cleanups []func() // mu guards it
}

// NewSession returns a session that logs to out; End ends it.
func NewSession(out io.Writer) *Session { return &Session{out: out} }

// stop is what Fatalf panics with; Try catches it.
type stop struct{ message string }

// Helper implements netns.T.
func (s *Session) Helper() {}

// Failed is false: logs of programs are not shown at the end.
func (s *Session) Failed() bool { return false }

// Logf writes a line.
func (s *Session) Logf(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// Fatalf ends the work of Try, which returns the message.
func (s *Session) Fatalf(format string, args ...any) {
	panic(stop{fmt.Sprintf(format, args...)})
}

// Skipf is Fatalf: a program that was asked for something cannot leave it out.
func (s *Session) Skipf(format string, args ...any) { s.Fatalf(format, args...) }

// Cleanup registers what End does.
func (s *Session) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// Try does something and returns what Fatalf said of it.
func (s *Session) Try(do func()) (err error) {
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

// End does the clean-up, the last registered first.
func (s *Session) End() {
	s.mu.Lock()
	cleanups := s.cleanups
	s.cleanups = nil
	s.mu.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f()
	}
}
