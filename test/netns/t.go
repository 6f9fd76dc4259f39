//go:build linux

package netns

import "time"

// T is what this package and its users want of a test; testing.TB has it, and a
// program that is no test can offer it, too.
type T interface {
	Helper()
	Logf(format string, args ...any)
	// Fatalf and Skipf end the calling goroutine.
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	// Cleanup registers what is done at the end, the last one first.
	Cleanup(f func())
}

// Until calls ok until it returns nil; the test fails with its last error after limit.
func Until(t T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond) // the step of the poll
	}
}
