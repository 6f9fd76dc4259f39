package relay

import (
	"slices"
	"testing"
	"time"
)

// chooser is a choice under a simulated clock.
type chooser struct {
	t *testing.T
	choice
	now  time.Time
	list []standing
}

// newChooser makes relays 1, 2, … at distances in milliseconds; 0: it does not answer.
func newChooser(t *testing.T, distances ...int) *chooser {
	c := &chooser{t: t, now: time.Unix(1_800_000_000, 0)}
	for i, ms := range distances {
		c.list = append(c.list, standing{number: uint16(i + 1)})
		c.at(uint16(i+1), ms)
	}
	return c
}

func (c *chooser) of(n uint16) *standing { return &c.list[n-1] }

func (c *chooser) at(n uint16, ms int) {
	s := c.of(n)
	s.distance, s.reached = time.Duration(ms)*time.Millisecond, ms > 0
}

// pass lets time go by: relays in up have a session if one is wanted, others miss it.
func (c *chooser) pass(d time.Duration, up ...uint16) {
	const step = 250 * time.Millisecond
	for range max(int(d/step), 1) {
		c.now = c.now.Add(step)
		wanted := c.wanted(c.list, 0)
		for i := range c.list {
			s := &c.list[i]
			s.connected = slices.Contains(up, s.number) && slices.Contains(wanted, s.number)
			switch {
			case s.connected || !slices.Contains(wanted, s.number):
				s.down = 0
			default:
				s.down += step
			}
			if !slices.Contains(up, s.number) {
				s.reached = false
			}
		}
		if next := c.step(c.now, c.list); next.Before(c.now) {
			c.t.Errorf("wants to be called in the past, by %s", c.now.Sub(next))
		}
	}
}

func (c *chooser) measure() { c.measured(c.now, c.list) }

func (c *chooser) want(what string, home, standby uint16) {
	c.t.Helper()
	if c.home != home || c.standby != standby {
		c.t.Errorf("%s: home %d, standby %d; want %d, %d", what, c.home, c.standby, home, standby)
	}
}

func TestChoiceStarts(t *testing.T) {
	c := newChooser(t, 80, 30, 5, 12)
	if got := c.wanted(c.list, 4); !slices.Equal(got, []uint16{1, 2, 4}) {
		t.Errorf("wanted at first: %v", got)
	}
	c.pass(0, 1, 3, 4)
	c.want("the first session", 1, c.standby)
	c.measure()
	c.pass(0, 1, 2, 3, 4) // a session with the nearest is begun
	c.pass(0, 1, 2, 3, 4)
	c.want("the nearest two", 3, 4)
	if c.changes != 1 || c.uneasy() {
		t.Errorf("%+v", c.choice)
	}
}

func TestChoiceAlone(t *testing.T) {
	c := newChooser(t, 30)
	c.pass(0)
	c.want("nothing yet", 0, 0)
	c.pass(0, 1)
	c.want("connected", 1, 0)
	c.measure()
	c.pass(10 * time.Second)
	c.want("down: there is no other", 1, 0)
	c.pass(0, 1)
	c.want("up", 1, 0)
}

// A relay a little nearer is not worth a move; one much nearer is, the second time.
func TestChoiceStays(t *testing.T) {
	c := newChooser(t, 40, 60, 90)
	c.measure()
	c.pass(time.Second, 1, 2, 3)
	c.want("settled", 1, 2)
	c.at(2, 31)
	for range 10 {
		c.measure()
		c.pass(probeEvery, 1, 2, 3)
	}
	c.want("nine nearer", 1, 2)
	c.at(3, 20)
	c.measure()
	c.pass(probeSoon, 1, 2, 3)
	c.want("once nearer", 1, 3)
	c.at(3, 90)
	c.measure()
	c.at(3, 20)
	c.measure()
	c.pass(probeSoon, 1, 2, 3)
	c.want("not in a row", 1, 3)
	c.measure()
	c.pass(probeSoon, 1, 2, 3)
	c.want("twice nearer", 3, 2)
	c.at(1, 2)
	c.measure()
	c.measure()
	c.pass(20*time.Second, 1, 2, 3)
	c.want("too early again", 3, 1)
	c.pass(homeCalm, 1, 2, 3)
	c.want("a minute later", 1, 3)
}

func TestChoiceFailsOver(t *testing.T) {
	c := newChooser(t, 10, 20, 30)
	c.measure()
	c.pass(time.Second, 1, 2, 3)
	c.want("settled", 1, 2)
	c.pass(homePatience-250*time.Millisecond, 2, 3)
	c.want("a short loss", 1, 2)
	c.pass(time.Second, 2, 3)
	c.want("a long one", 2, 3)
	if !c.uneasy() {
		t.Error("the next measurement does not come soon")
	}
	c.at(1, 10) // it comes back, ten nearer: not enough
	c.measure()
	c.measure()
	c.pass(2*time.Minute, 1, 2, 3)
	c.want("back, but not nearer by enough", 2, 1)
	c.at(1, 5)
	c.measure()
	c.measure()
	c.pass(2*time.Minute, 1, 2, 3)
	c.want("back, and much nearer", 1, 2)
	c.pass(forgetAfter, 1, 2, 3)
	if c.uneasy() {
		t.Error("the failure is not forgotten")
	}
}

// The home and the standby fail together: whichever relay can be reached is found.
func TestChoiceSearches(t *testing.T) {
	c := newChooser(t, 10, 20, 30, 40, 50)
	c.measure()
	c.pass(time.Second, 1, 2, 3, 4, 5)
	c.pass(20*time.Second, 5)
	if c.home != 5 {
		t.Errorf("home %d after 20 s", c.home)
	}
	c.pass(10 * time.Second)
	if c.home != 5 {
		t.Errorf("home %d though none can be reached", c.home)
	}
}

func TestChoiceDrains(t *testing.T) {
	c := newChooser(t, 10, 20, 30)
	c.measure()
	c.pass(time.Second, 1, 2, 3)
	c.of(1).draining = true
	c.pass(0, 1, 2, 3)
	c.want("the home drains", 2, 3)
	c.of(3).draining = true
	c.pass(0, 1, 2, 3)
	c.want("all others drain", 2, 3)
	c.of(1).draining = false
	c.pass(givenUpFor+time.Second, 1, 2, 3)
	c.want("the standby drains", 2, 1)
	c.of(2).draining, c.of(1).draining = true, true
	c.pass(0, 1, 2, 3)
	c.want("all drain", 2, 1)
}

func TestChoiceFollowsTheList(t *testing.T) {
	c := newChooser(t, 10, 20, 30)
	c.measure()
	c.pass(time.Second, 1, 2, 3)
	c.list = c.list[1:]
	c.step(c.now, c.list)
	c.want("the home left", 2, 3)
	c.list = nil
	c.step(c.now, c.list)
	c.want("all left", 0, 0)
}
