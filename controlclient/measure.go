package controlclient

import (
	"context"
	"net/http"
	"time"

	"nexd/controlapi"
)

// Measurement is how the service is reached.
type Measurement struct {
	// RTT is the time of one small request over an open connection.
	RTT time.Duration
	// Clock is the service's, in whole seconds; zero: it did not say. Ahead is
	// this machine's clock minus that one; 0 when the seconds do not tell them
	// apart.
	Clock time.Time
	Ahead time.Duration
}

// Measure asks the service twice whether it lives: once to have a connection,
// once to look at the clocks.
func (c *Client) Measure(ctx context.Context) (Measurement, error) {
	if err := c.Probe(ctx); err != nil {
		return Measurement{}, err
	}
	var health controlapi.Health
	var header http.Header
	began := time.Now()
	if err := c.do(ctx, call{method: http.MethodGet, path: "/healthz", out: &health, header: &header}); err != nil {
		return Measurement{}, err
	}
	m := Measurement{RTT: time.Since(began)}
	if clock, err := http.ParseTime(header.Get("Date")); err == nil {
		m.Clock = clock
		m.Ahead = apart(began, began.Add(m.RTT), clock)
	}
	return m, nil
}

// apart is how far the second that began at clock lies from the time between
// from and to: positive when that is later, 0 when they overlap.
func apart(from, to, clock time.Time) time.Duration {
	switch {
	case from.After(clock.Add(time.Second)):
		return from.Sub(clock.Add(time.Second))
	case to.Before(clock):
		return to.Sub(clock)
	}
	return 0
}
