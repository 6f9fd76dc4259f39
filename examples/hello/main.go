// Command hello is the application of the demo: a web server that knows
// nothing of any mesh, and a client for machines without curl.
//
//	hello serve ADDRESS   answers every request with a line of text
//	hello get URL         prints the answer to a request, or fails within 20 s
//	hello port            prints a TCP port that is free now
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
	case len(args) == 1 && args[0] == "port":
		return freePort(out)
	}
	return fmt.Errorf("want: hello serve ADDRESS | hello get URL | hello port")
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

func freePort(out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	_, err = fmt.Fprintln(out, l.Addr().(*net.TCPAddr).Port)
	return err
}
