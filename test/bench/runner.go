package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// runner runs the tests on the systems.
type runner struct {
	*options
	env    *env
	report *file
	// up are the systems that run, by name; those over a lossy cable with it.
	up map[string]*system
	// gone are those that could not be started again and again.
	gone map[string]int
}

// restRounds is how many rounds what starts systems of its own has at most.
const restRounds = 3

func (r *runner) run() {
	r.gone = map[string]int{}
	fmt.Fprintln(os.Stderr, r.report.Machine)
	for name, v := range r.report.Versions {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, v)
	}
	fast, lossy := r.usable(kinds, ""), r.usable(lossyKinds, " with losses")
	for _, line := range r.report.LeftOut {
		fmt.Fprintln(os.Stderr, "left out:", line)
	}
	for round := range r.rounds {
		for _, t := range tests {
			if !r.only.MatchString(t.name) || r.quick && t.slow {
				continue
			}
			of := fast
			switch {
			case t.own != nil && round >= restRounds:
				continue
			case t.own != nil:
				of = slices.DeleteFunc(slices.Clone(fast), func(k kind) bool { return !slices.Contains(t.on, k.name) })
			case t.lossy:
				of = lossy
			}
			for i := range of {
				if r.env.ctx.Err() != nil {
					return
				}
				r.once(round, t, of[(i+round)%len(of)])
			}
		}
	}
}

// usable are the kinds that can run here and are wanted.
func (r *runner) usable(all []kind, where string) (out []kind) {
	for _, k := range all {
		switch {
		case !r.systems.MatchString(k.name) || k.old && r.env.old == "":
		case k.isolated && r.env.shared != nil:
			r.report.LeftOut = append(r.report.LeftOut, fmt.Sprintf("%s%s: %v", k.name, where, r.env.shared))
		default:
			out = append(out, k)
		}
	}
	return out
}

// once runs a test on a system, and notes what came of it.
func (r *runner) once(round int, t test, k kind) {
	result := result{Round: round + 1, Test: t.name, System: k.name}
	stolen, begun := steal(), time.Now()
	v, err := r.try(round, t, k)
	result.Values = v
	if err != nil {
		result.Error = err.Error()
	}
	result.Steal = (steal() - stolen) / time.Since(begun).Seconds()
	if r.env.ctx.Err() != nil {
		return
	}
	r.report.Results = append(r.report.Results, result)
	fmt.Fprintf(os.Stderr, "round %d  %-14s %-14s %s\n", result.Round, t.name, k.name, result.line(t))
}

func (r *runner) try(round int, t test, k kind) (values, error) {
	if t.own != nil {
		return t.own(r.env, k.name)
	}
	s, err := r.system(k, t.lossy)
	if err != nil {
		return nil, err
	}
	length := time.Duration(r.seconds * float64(time.Second))
	if t.lossy {
		length *= 2 // fewer packets say less
		if err := s.wire.call("Lose", Loss{t.loss, uint64(round)}, &Nothing{}, patience); err != nil {
			return nil, err
		}
	}
	defer s.settle()
	v, err := t.run(s, length)
	if t.lossy {
		s.wire.call("Lose", Loss{}, &Nothing{}, patience)
	}
	if dead := s.alive(); dead != nil {
		return nil, dead
	}
	if err == nil && s.path != nil {
		err = s.path()
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// attempts is how often a system that ended is started again.
const attempts = 3

// system returns one that runs: started when it is first needed, and again
// when it has ended.
func (r *runner) system(k kind, lossy bool) (*system, error) {
	name := k.name
	if lossy {
		name += " over a cable"
	}
	if s := r.up[name]; s != nil {
		if s.alive() == nil {
			return s, nil
		}
		delete(r.up, name)
		s.stop()
	}
	if r.gone[name] >= attempts {
		return nil, fmt.Errorf("it did not run %d times", attempts)
	}
	s, err := r.env.bring(k, lossy)
	if err != nil {
		r.gone[name]++
		return nil, fmt.Errorf("start it: %w", err)
	}
	r.up[name] = s
	return s, nil
}

func (r *runner) close() {
	for _, s := range r.up {
		s.stop()
	}
}
