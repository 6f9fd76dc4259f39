package relay

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Behind a reverse proxy that ends TLS and speaks plain HTTP to the relay, below a path.
func TestBehindReverseProxy(t *testing.T) {
	r := newRelay(t)
	back := httptest.NewServer(r.server)
	defer back.Close()
	target, err := url.Parse(back.URL)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mesh/", http.StripPrefix("/mesh", httputil.NewSingleHostReverseProxy(target)))
	front := httptest.NewTLSServer(mux)
	defer front.Close()
	trusted := front.Client().Transport.(*http.Transport).TLSClientConfig
	a := r.node("net", onlyTLS, withURL(front.URL+"/mesh/v1/relay", trusted))
	b := r.node("net", onlyUDP)
	a.reaches(b, "through the reverse proxy")
	b.reaches(a, "and back")
	// The connections must end before the proxy can.
	a.stop()
}

// Through an HTTP proxy, by CONNECT.
func TestThroughConnectProxy(t *testing.T) {
	r := newRelay(t)
	var tunnels atomic.Int64
	var wg sync.WaitGroup
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect {
			http.Error(w, "CONNECT alone", http.StatusMethodNotAllowed)
			return
		}
		there, err := net.Dial("tcp", req.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			there.Close()
			return
		}
		wg.Add(2)
		tunnels.Add(1)
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		join := func(to, from net.Conn) {
			defer wg.Done()
			io.Copy(to, from)
			to.Close()
			from.Close()
		}
		go join(there, here)
		go join(here, there)
	}))
	defer wg.Wait()
	defer proxy.Close()
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	a, b := r.node("net", onlyTLS, withProxy(u)), r.node("net", onlyUDP)
	a.reaches(b, "through the proxy")
	b.reaches(a, "and back")
	if tunnels.Load() != 1 {
		t.Errorf("%d tunnels", tunnels.Load())
	}
	a.stop()
}

// A server that is no relay, one with another certificate, and one that
// refuses: the status says so, and the client goes on trying.
func TestNotARelay(t *testing.T) {
	r := newRelay(t)
	web := httptest.NewTLSServer(http.NotFoundHandler())
	defer web.Close()
	trusted := web.Client().Transport.(*http.Transport).TLSClientConfig
	a := r.node("net", onlyTLS, withURL(web.URL, trusted))
	b := r.node("net", onlyTLS, withURL(r.web.URL, &tls.Config{RootCAs: x509.NewCertPool()}))
	waitFor(t, "the reasons", func() bool {
		return says(a.Status().Err, "404") && says(b.Status().Err, "certificate")
	})
}
