package relay

import (
	"context"
	"errors"
)

// Run keeps the sessions until ctx ends, then says goodbye and returns nil. It
// may be called once.
func (p *Pool) Run(ctx context.Context) error {
	if p.ran.Swap(true) {
		return errors.New("relay pool: Run was called before")
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
			if p.changed.Swap(false) && p.cfg.OnChange != nil {
				p.cfg.OnChange()
			}
		case <-p.answers:
		}
	}
}

// Status says how the node stands with each relay of the list, by number.
func (p *Pool) Status() []PoolStatus { return nil }

// Stats may be called at any time.
func (p *Pool) Stats() PoolStats { return PoolStats{} }
