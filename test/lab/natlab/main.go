//go:build linux

// Command natlab builds a NAT laboratory by hand: the sites given as arguments,
// then commands from standard input until it ends. Everything is removed at the
// end. It needs root; nothing leaves the machine.
//
//	make lab LAB='a=full-cone b=symmetric,nodes=2'
//	> nat a1
//	> pair a1 b1
//	> shell b2
//
// See usage below for the words.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"nexd/test/lab"
)

const usage = `usage: natlab SITE…    then commands; natlab all: a site of each kind

SITE is NAME=KIND[,OPTION]… or NAME=carrier:KIND[,OPTION]… (a NAT for via=NAME)
  kinds    none fw full-cone addr-restricted eim-apdf port-restricted linux-open
           symmetric symmetric-seq symmetric-ad cgnat udp-blocked
  options  nodes=N via=CARRIER lan=192.168.1.0/24 v6=open|fw hairpin natpmp orefresh
           inner=KIND outer=KIND (of cgnat)
`

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "natlab: %v\n", err)
		os.Exit(1)
	}
}

// run builds the lab, does what in says until it ends, and removes the lab.
func run(args []string, in io.Reader, out io.Writer) error {
	specs, err := parseSites(args)
	if err != nil {
		fmt.Fprint(out, usage)
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(signals)

	s := lab.NewSession(out)
	defer s.End()
	var l *lab.Lab
	if err := s.Try(func() { l = build(s, specs) }); err != nil {
		return err
	}
	c := &console{Session: s, lab: l, in: in, out: out}
	c.list(nil)
	return c.loop(bufio.NewReader(in), signals)
}

// loop reads and does commands until the input or a signal ends it.
func (c *console) loop(in *bufio.Reader, signals <-chan os.Signal) error {
	type line struct {
		text string
		err  error
	}
	lines := make(chan line, 1)
	for {
		fmt.Fprint(c.out, "> ")
		go func() { // only when one is wanted: a shell in a node reads the same input
			text, err := in.ReadString('\n')
			lines <- line{text, err}
		}()
		var got line
		select {
		case got = <-lines:
		case <-signals:
			fmt.Fprintln(c.out)
			return nil
		}
		words := strings.Fields(got.text)
		if len(words) > 0 && (words[0] == "quit" || words[0] == "exit") {
			return nil
		}
		if len(words) > 0 {
			if err := c.Try(func() { c.do(words) }); err != nil {
				fmt.Fprintf(c.out, "error: %v\n", err)
			}
			select {
			case <-signals: // it was for the program that ran
			default:
			}
		}
		if errors.Is(got.err, io.EOF) {
			fmt.Fprintln(c.out)
			return nil
		}
		if got.err != nil {
			return got.err
		}
	}
}
