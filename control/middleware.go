package control

import (
	"context"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"nexd/controlapi"
	"nexd/internal/logkey"
)

// Time for a request and its answer; streams set their own.
const (
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
)

type remoteKey struct{}

func remoteFrom(ctx context.Context) string {
	remote, _ := ctx.Value(remoteKey{}).(string)
	return remote
}

// handler is what every request passes: bounds in time and size, headers,
// metrics, and answers of one form for paths and methods that do not exist.
func (s *Service) handler(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		rc, now := http.NewResponseController(w), time.Now()
		rc.SetReadDeadline(now.Add(readTimeout)) // cannot fail on the server's own writers
		rc.SetWriteDeadline(now.Add(writeTimeout))
		r.Body = http.MaxBytesReader(rec, r.Body, maxAnyBody)
		setHeaders(w.Header())
		r = s.withoutBase(r).WithContext(context.WithValue(r.Context(), remoteKey{}, r.RemoteAddr))

		route := "none"
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				s.log.Error("request handler panicked", logkey.Path, route, logkey.Err, v, "stack", string(debug.Stack()))
				if rec.status == 0 {
					writeProblem(rec, problem(http.StatusInternalServerError, controlapi.CodeInternal, "the service could not do this now", ""))
				}
			}
			s.metrics.requests.WithLabelValues(route, strconv.Itoa(max(rec.status, http.StatusOK))).Inc()
		}()
		h, pattern := mux.Handler(r)
		if pattern == "" {
			s.noRoute(rec, r, h)
			return
		}
		route = pattern
		mux.ServeHTTP(rec, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// withoutBase takes the path of the public URL off, for a reverse proxy that
// passes the whole path on.
func (s *Service) withoutBase(r *http.Request) *http.Request {
	rest, ok := strings.CutPrefix(r.URL.Path, s.base+"/")
	if s.base == "" || !ok {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath = "/"+rest, ""
	out := *r
	out.URL = &u
	return &out
}

// noRoute asks the mux's own answer for its status and gives it our form.
func (s *Service) noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	probe := &discard{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		writeProblem(w, problem(http.StatusMethodNotAllowed, controlapi.CodeInvalid, "this path does not take "+clip(r.Method), "it takes "+allow))
		return
	}
	writeProblem(w, problem(http.StatusNotFound, controlapi.CodeNotFound, "there is nothing at this path", "/openapi.json lists the paths"))
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// discard keeps the header and status of an answer only.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(s int)   { d.status = s }
func (d *discard) Write(b []byte) (int, error) {
	return len(b), nil
}
