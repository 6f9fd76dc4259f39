package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// rest is how long processes are left alone before their memory counts.
const rest = 3 * time.Second

// many is how many peers, members and rules are counted; one is what they are
// compared with.
const many = 1000

// restTests start systems of their own, so that what other tests left does not
// count.
var restTests = []test{
	{
		name: "start", group: groupRest, on: []string{plainName, stockName, kernelName, nexdName, oldName}, own: begin,
		metrics: []metric{
			{key: "start", unit: "ms from the egress process's start to a byte's echo", lower: true},
			{key: "in", unit: "MB at rest, ingress", lower: true, digits: 1},
			{key: "out", unit: "MB at rest, egress", lower: true, digits: 1},
		},
	},
	idle(1000, false, plainName, stockName, nexdName, oldName),
	idle(10000, true, stockName, nexdName, oldName), // pipes of plain proxies would be 40,000 files more
	{
		name: "peers", group: groupRest, slow: true, on: []string{stockName, nexdName, oldName}, own: peers,
		metrics: []metric{
			{key: "member", unit: "KiB per member of the mesh that is not used", lower: true, digits: 2},
			{key: "peer", unit: "KiB per peer that WireGuard knows", lower: true, digits: 1},
		},
	},
	{
		name: "rules", group: groupRest, slow: true, on: []string{stockName, nexdName, oldName}, own: ruleCosts,
		metrics: []metric{
			{key: "in", unit: "KiB per ingress rule (stock: listener)", lower: true, digits: 1},
			{key: "out", unit: "KiB per egress rule", lower: true, digits: 1},
		},
	},
}

// kindOf is the system of a name.
func kindOf(name string) kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return kind{}
}

// begin measures a start and what is used then.
func begin(e *env, name string) (values, error) {
	s, err := e.bring(kindOf(name), false)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	took, err := s.restart()
	if err != nil {
		return nil, fmt.Errorf("start it again: %w", err)
	}
	time.Sleep(rest)
	in, out, err := s.memory()
	return values{"start": float64(took) / float64(time.Millisecond), "in": in / 1e6, "out": out / 1e6}, err
}

// restart stops the proxy at the client, starts it with what it was started
// with, and returns how long it takes until a byte comes back through it.
func (s *system) restart() (time.Duration, error) {
	last := len(s.counted) - 1
	was := s.counted[last]
	was.stop()
	cmd := exec.Command(was.cmd.Path, was.cmd.Args[1:]...)
	cmd.Env = was.cmd.Env
	begun := time.Now()
	p, err := start(s.env.dir, was.name, cmd)
	if err != nil {
		return 0, err
	}
	for i := range s.procs {
		if s.procs[i] == was {
			s.procs[i] = p
		}
	}
	s.counted[last] = p
	for {
		err := s.client.call("Try", s.addr, &Nothing{}, 2*patience)
		took := time.Since(begun)
		if err == nil || took > 30*time.Second {
			return took, err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// memory is what the two proxies use, in bytes.
func (s *system) memory() (in, out float64, err error) {
	if in, err = s.counted[0].rss(); err != nil {
		return 0, 0, err
	}
	out, err = s.counted[1].rss()
	return in, out, err
}

// idle measures connections that do nothing.
func idle(n int, slow bool, on ...string) test {
	return test{
		name: fmt.Sprintf("idle %d", n), group: groupRest, slow: slow, on: on,
		metrics: []metric{
			{key: "in", unit: "KiB per connection, ingress", lower: true, digits: 1},
			{key: "out", unit: "KiB per connection, egress", lower: true, digits: 1},
			{key: "open", unit: "s to open them", lower: true, digits: 1},
			{key: "cpu", unit: "% of a CPU while idle", lower: true, digits: 1, diff: true},
		},
		own: func(e *env, name string) (values, error) {
			s, err := e.bring(kindOf(name), false)
			if err != nil {
				return nil, err
			}
			defer s.stop()
			time.Sleep(rest)
			in, out, err := s.memory()
			if err != nil {
				return nil, err
			}
			var took time.Duration
			if err := s.client.call("Idle", Crowd{s.addr, n}, &took, 2*time.Minute); err != nil {
				return nil, err
			}
			time.Sleep(rest)
			in2, out2, err := s.memory()
			if err != nil {
				return nil, err
			}
			cpu, err := s.cpu()
			if err != nil {
				return nil, err
			}
			time.Sleep(2 * time.Second)
			cpu2, err := s.cpu()
			each := 1024 * float64(n)
			return values{"in": (in2 - in) / each, "out": (out2 - out) / each, "open": took.Seconds(), "cpu": 100 * (cpu2 - cpu) / 2}, err
		},
	}
}

// stockCost is what a stock process uses, after its start.
func stockCost(e *env, peers, listeners int) (float64, error) {
	cmd := exec.Command(e.self, "child", "stock-idle", strconv.Itoa(peers), strconv.Itoa(listeners))
	p, err := start(e.dir, "stock-idle", cmd)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	time.Sleep(2 * rest)
	return p.rss()
}

// perOne is what each of many costs in KiB, from the memory with one of them.
func perOne(one, all float64) float64 { return (all - one) / (many - 1) / 1024 }

// peers measures members of a mesh that are not there.
func peers(e *env, name string) (values, error) {
	if name == stockName {
		one, err := stockCost(e, 1, 1)
		if err != nil {
			return nil, err
		}
		all, err := stockCost(e, many, 1)
		return values{"peer": perOne(one, all)}, err
	}
	s, v, err := e.alone(name)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	one, err := s.cost(v, "one")
	if err != nil {
		return nil, err
	}
	addrs, err := s.absent(v)
	if err != nil {
		return nil, err
	}
	all, err := s.cost(v, "all")
	if err != nil {
		return nil, err
	}
	// A rule for each, so that each can be used.
	first := 20001
	var args []string
	for i, a := range addrs {
		args = append(args, "--egress", fmt.Sprintf("udp:127.0.0.1:%d:%s:80,idle-timeout=1s", first+i, a))
	}
	p, err := s.proxy(v, e.daemon(name), s.at, "user", args...)
	if err != nil {
		return nil, err
	}
	if err := s.ready(v, "user"); err != nil {
		return nil, err
	}
	time.Sleep(2 * rest)
	before, err := p.rss()
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		if err := s.client.call("Poke", "127.0.0.1:"+strconv.Itoa(first+i), &Nothing{}, patience); err != nil {
			return nil, err
		}
	}
	time.Sleep(3 * rest) // flows have ended
	after, err := p.rss()
	return values{"member": perOne(one, all), "peer": (after - before) / many / 1024}, err
}

// ruleCosts measures rules that nobody uses.
func ruleCosts(e *env, name string) (values, error) {
	if name == stockName {
		one, err := stockCost(e, 1, 1)
		if err != nil {
			return nil, err
		}
		all, err := stockCost(e, 1, many)
		return values{"in": perOne(one, all)}, err
	}
	s, v, err := e.alone(name)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	out := values{}
	for key, rule := range map[string]func(i int) []string{
		"in":  func(i int) []string { return []string{"--ingress", fmt.Sprintf("tcp:%d:127.0.0.1:9", 1000+i)} },
		"out": func(i int) []string { return []string{"--egress", fmt.Sprintf("tcp:%d:100.64.0.9:9", 1000+i)} },
	} {
		one, err := s.cost(v, key+"one", rule(0)...)
		if err != nil {
			return nil, err
		}
		var args []string
		for i := range many {
			args = append(args, rule(i)...)
		}
		all, err := s.cost(v, key+"all", args...)
		if err != nil {
			return nil, err
		}
		out[key] = perOne(one, all)
	}
	return out, nil
}

// daemon is the nexd of a system.
func (e *env) daemon(name string) string {
	if name == oldName {
		return e.old
	}
	return e.nexd
}

// alone is a place with a control service and no proxies.
func (e *env) alone(name string) (*system, *service, error) {
	s := &system{name: name, env: e}
	err := s.build(kind{}, false)
	var v *service
	if err == nil {
		v, err = s.serve(e.daemon(name))
	}
	if err != nil {
		s.stop()
		return nil, nil, err
	}
	return s, v, nil
}

// cost is what a proxy with these rules uses, after its start.
func (s *system) cost(v *service, name string, args ...string) (float64, error) {
	p, err := s.proxy(v, s.env.daemon(s.name), s.at, name, args...)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	if err := s.ready(v, name); err != nil {
		return 0, err
	}
	time.Sleep(2 * rest)
	rss, err := p.rss()
	s.procs = s.procs[:len(s.procs)-1]
	return rss, err
}

// ready waits until a proxy is ready.
func (s *system) ready(v *service, name string) error {
	return s.until(30*time.Second, func() error {
		return s.at.do(s.env.nexctl, "--unix-socket", v.socket(name), "nexd", "wait", "--for", "ready", "--timeout", "20s")
	})
}

// absent joins many members that are never there, and returns their addresses.
func (s *system) absent(v *service) (addrs []netip.Addr, err error) {
	cmd := s.at.command(s.env.self, "child", "members", strconv.Itoa(many))
	cmd.Stdin = strings.NewReader(v.key)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("join members: %w: %s", err, words.String())
	}
	lines := bufio.NewScanner(&out)
	for lines.Scan() {
		a, err := netip.ParseAddr(lines.Text())
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}
