package duplex_test

import (
	"testing"

	"go.uber.org/goleak"

	"nexd/internal/duplex"
	"nexd/internal/duplex/duplextest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCopy(t *testing.T) {
	kinds := []struct {
		name string
		pair duplextest.Pair
	}{
		{"TCP", duplextest.TCP},
		{"Unix", duplextest.Unix},
		{"Pipe", duplextest.Pipe},
	}
	for _, left := range kinds {
		for _, right := range kinds {
			t.Run(left.name+"-"+right.name, func(t *testing.T) {
				t.Parallel()
				duplextest.Run(t, duplex.Copy, left.pair, right.pair)
			})
		}
	}
}

func TestEndString(t *testing.T) {
	for end, want := range map[duplex.End]string{
		0: "invalid", duplex.Finished: "finished", duplex.Reset: "reset", duplex.Idle: "idle", duplex.Cut: "cut",
	} {
		if end.String() != want {
			t.Errorf("%d is %q, want %q", end, end, want)
		}
	}
}
