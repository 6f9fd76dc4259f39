// Command hello is the application of the demo: a web server that knows
// nothing of any mesh, and a client for machines without curl.
//
//	hello serve ADDRESS   answers every request with a line of text
//	hello get URL         prints the answer to a request, or fails within 20 s
//	hello ports N         prints so many ports that are free now
package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 2 && args[0] == "get":
		return get(out, args[1])
	case len(args) == 2 && args[0] == "ports":
		return freePorts(out, args[1])
	}
	return fmt.Errorf("want: hello serve ADDRESS | hello get URL | hello ports N")
}

func serve(addr string) error {
	server := &http.Server{
		Addr: addr, ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello from %s, asked for %s by %s\n", addr, r.URL.Path, r.RemoteAddr)
		}),
	}
	return server.ListenAndServe()
}

// get asks until there is an answer: the first request may find the two
// proxies still looking for each other.
func get(out io.Writer, url string) error {
	client := &http.Client{Timeout: 5 * time.Second}
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := client.Get(url)
		if err == nil {
			defer resp.Body.Close()
			_, err = io.Copy(out, io.LimitReader(resp.Body, 1<<20))
			return err
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// Ports are looked for here: below those that systems choose for connections
// (Linux: from 32768), one of which could take a port before it is listened on.
const (
	lowestPort = 10_000
	ports      = 18_000
)

// freePorts prints different ports that nobody listens on, over TCP or UDP.
func freePorts(out io.Writer, count string) error {
	missing, err := strconv.Atoi(count)
	if err != nil || missing < 1 {
		return fmt.Errorf("ports %q: want a number from 1 up", count)
	}
	first := rand.IntN(ports) // two that look at once do not find the same
	for i := 0; i < ports && missing > 0; i++ {
		port := lowestPort + (first+i)%ports
		if !isFree(fmt.Sprintf(":%d", port)) {
			continue
		}
		missing--
		fmt.Fprintf(out, "%d ", port)
	}
	fmt.Fprintln(out)
	if missing > 0 {
		return fmt.Errorf("%d ports too few are free", missing)
	}
	return nil
}

func isFree(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
