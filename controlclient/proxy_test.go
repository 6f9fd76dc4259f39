package controlclient_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
)

// child joins in a process of its own, since net/http reads the environment
// once, and never uses a proxy towards loopback: the service gets a name.
func child(url string) int {
	c, err := controlclient.New(controlclient.Config{ServiceURL: url, Pin: controlapi.Pin(os.Getenv("CONTROLCLIENT_TEST_PIN"))})
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p := params("behind-a-proxy")
		p.OnWait = func(error, time.Duration) { cancel() }
		_, err = c.Join(ctx, p)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestProxyOfTheEnvironment(t *testing.T) {
	f := controlclienttest.NewFake(t)
	const name = "service.test:443"
	run := func(proxy string) (string, error) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CONTROLCLIENT_TEST_CHILD=https://"+name, "CONTROLCLIENT_TEST_PIN="+string(f.Pin()),
			"HTTPS_PROXY="+proxy, "https_proxy=", "NO_PROXY=", "no_proxy=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	forward, asked := connectProxy(t, strings.TrimPrefix(f.URL(), "https://"), http.StatusOK)
	if out, err := run("http://" + forward); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if got := asked(); len(got) == 0 || got[0] != name {
		t.Errorf("the proxy was asked for %v, want %s", got, name)
	}
	deny, _ := connectProxy(t, "", http.StatusForbidden)
	if out, err := run("http://" + deny); err == nil || !strings.Contains(out, "the proxy "+deny+" does not connect to "+name+": 403") {
		t.Errorf("denied: %v: %s", err, out)
	}
	if out, err := run("http://127.0.0.1:1"); err == nil || !strings.Contains(out, "the proxy 127.0.0.1:1 refuses connections") {
		t.Errorf("proxy down: %v: %s", err, out)
	}
}

// connectProxy answers CONNECT with status and joins the tunnel to target.
func connectProxy(t *testing.T, target string, status int) (addr string, asked func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	var mu sync.Mutex
	var names []string
	serve := func(c net.Conn) {
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		mu.Lock()
		names = append(names, req.Host)
		mu.Unlock()
		fmt.Fprintf(c, "HTTP/1.1 %d %s\r\n\r\n", status, http.StatusText(status))
		if status != http.StatusOK {
			return
		}
		up, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer up.Close()
		all.Go(func() { io.Copy(up, c); up.Close() })
		io.Copy(c, up)
	}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(c) })
		}
	})
	return l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return names
	}
}
