//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"nexd/test/lab"
)

// console does the commands.
type console struct {
	*lab.Session
	lab *lab.Lab
	in  io.Reader
	out io.Writer
}

// command is one word a user may write.
type command struct {
	name, args, what string
	least            int // arguments
	do               func(c *console, args []string)
}

var commands []command

func init() { // not a literal: help reads the list
	commands = []command{
		{"list", "", "the sites, their addresses and namespaces", 0, (*console).list},
		{"nat", "NODE…", "what a node sees of its NAT (RFC 5780)", 1, (*console).nat},
		{"pair", "NODE NODE [LATE]", "can plain UDP sockets reach each other? LATE: the second starts later, as 300ms", 2, (*console).pair},
		{"exec", "NODE PROGRAM ARG…", "run a program in a node", 2, (*console).exec},
		{"shell", "NODE", "a shell in a node, or in pub", 1, (*console).shell},
		{"rebind", "SITE", "the NAT forgets its mappings and hands out other ports", 1, site((*lab.Site).Rebind)},
		{"flush", "SITE", "the NAT forgets its mappings", 1, site((*lab.Site).Flush)},
		{"roam", "SITE", "the next outside address", 1, site((*lab.Site).Roam)},
		{"udpblock", "SITE", "drop all UDP", 1, site((*lab.Site).UDPBlock)},
		{"udpunblock", "SITE", "and no more", 1, site((*lab.Site).UDPUnblock)},
		{"linkdown", "SITE", "pull the cable", 1, site((*lab.Site).LinkDown)},
		{"linkup", "SITE", "plug it in", 1, site((*lab.Site).LinkUp)},
		{"block", "SITE SITE [oneway]", "nothing passes between two sites, or from the first to the second", 2, (*console).block},
		{"unblock", "SITE SITE", "and no more", 2, (*console).unblock},
		{"latency", "SITE DELAY [JITTER [LOSS%]]", "of each direction, as 20ms 5ms 1%", 2, (*console).latency},
		{"rate", "SITE MBIT", "of each direction; 0: no bound", 2, (*console).rate},
		{"timeout", "SITE TIME", "of UDP mappings, as 30s", 2, (*console).timeout},
		{"move", "NODE SITE", "carry a node to another site", 2, (*console).move},
		{"flows", "SITE", "the router's connection tracking table", 1, (*console).flows},
		{"rules", "SITE", "the router's nftables", 1, (*console).rules},
		{"help", "", "this list", 0, (*console).help},
		{"quit", "", "remove the lab", 0, nil},
	}
}

// do does one command.
func (c *console) do(words []string) {
	for _, cmd := range commands {
		if cmd.name != words[0] {
			continue
		}
		if len(words)-1 < cmd.least {
			c.Fatalf("usage: %s %s", cmd.name, cmd.args)
		}
		cmd.do(c, words[1:])
		return
	}
	c.Fatalf("no command %q: help lists them", words[0])
}

func (c *console) help([]string) {
	for _, cmd := range commands {
		fmt.Fprintf(c.out, "  %-36s %s\n", cmd.name+" "+cmd.args, cmd.what)
	}
}

func (c *console) list([]string) {
	for _, s := range c.lab.Sites() {
		fmt.Fprintln(c.out, s)
	}
	stun := c.lab.STUN()
	fmt.Fprintf(c.out, "pub    STUN %s %s %s\n", stun[0], stun[1], stun[2])
	fmt.Fprintf(c.out, "ip netns exec %s-NODE PROGRAM runs one from elsewhere\n", strings.TrimSuffix(c.lab.Pub.NS, "-pub"))
}

// site is a command on one site.
func site(do func(*lab.Site)) func(*console, []string) {
	return func(c *console, args []string) {
		s := c.site(args[0])
		do(s)
		fmt.Fprintln(c.out, s)
	}
}

func (c *console) site(name string) *lab.Site {
	s, err := c.lab.SiteNamed(name)
	if err != nil {
		c.Fatalf("%v", err)
	}
	return s
}

func (c *console) node(name string) *lab.Node {
	n, err := c.lab.Node(name)
	if err != nil {
		c.Fatalf("%v", err)
	}
	return n
}

func (c *console) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		c.Fatalf("%v: want a time, as 20ms", err)
	}
	return d
}

func (c *console) nat(args []string) {
	for _, name := range args {
		b, err := c.node(name).Behaviour()
		if err != nil {
			c.Fatalf("%v", err)
		}
		fmt.Fprintln(c.out, name, b)
	}
}

func (c *console) pair(args []string) {
	var late [2]time.Duration
	if len(args) > 2 {
		late[1] = c.duration(args[2])
	}
	p, err := lab.NewPair(c.node(args[0]), c.node(args[1]))
	if err != nil {
		c.Fatalf("%v", err)
	}
	defer p.Close()
	m := p.Mapped()
	fmt.Fprintf(c.out, "%s seen as %s, %s as %s\n", args[0], m[0], args[1], m[1])
	fmt.Fprintln(c.out, p.Punch(3*time.Second+late[1], late))
}

func (c *console) exec(args []string) { c.attached(c.node(args[0]).Command(args[1], args[2:]...)) }

func (c *console) shell(args []string) {
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	host := c.lab.Pub
	if args[0] != "pub" {
		host = c.node(args[0]).Host
	}
	c.attached(host.Command(shell))
}

// attached runs a program on our own streams.
func (c *console) attached(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.out
	if f, ok := c.in.(*os.File); !ok || f == nil {
		cmd.Stdin = nil
	}
	if err := cmd.Run(); err != nil {
		c.Fatalf("%v", err)
	}
}

func (c *console) block(args []string) {
	a, b := c.site(args[0]), c.site(args[1])
	switch {
	case len(args) == 2:
		c.lab.Block(a, b)
	case args[2] == "oneway":
		c.lab.BlockOneWay(a, b)
	default:
		c.Fatalf("%q: want oneway or nothing", args[2])
	}
}

func (c *console) unblock(args []string) { c.lab.Unblock(c.site(args[0]), c.site(args[1])) }

func (c *console) latency(args []string) {
	s, delay := c.site(args[0]), c.duration(args[1])
	var jitter time.Duration
	var loss float64
	if len(args) > 2 {
		jitter = c.duration(args[2])
	}
	if len(args) > 3 {
		var err error
		if loss, err = strconv.ParseFloat(strings.TrimSuffix(args[3], "%"), 64); err != nil {
			c.Fatalf("%v: want a percentage", err)
		}
	}
	s.Latency(delay, jitter, loss/100)
}

func (c *console) rate(args []string) {
	mbit, err := strconv.ParseFloat(args[1], 64)
	if err != nil {
		c.Fatalf("%v: want Mbit/s", err)
	}
	c.site(args[0]).Rate(int64(mbit * 1e6))
}

func (c *console) timeout(args []string) { c.site(args[0]).Timeout(c.duration(args[1])) }

func (c *console) move(args []string) {
	n := c.node(args[0])
	c.lab.Move(n, c.site(args[1]))
	fmt.Fprintln(c.out, n.Site())
}

func (c *console) flows(args []string) {
	c.attached(c.site(args[0]).Router().Command("conntrack", "-L"))
}

func (c *console) rules(args []string) {
	c.attached(c.site(args[0]).Router().Command("nft", "list", "ruleset"))
}
