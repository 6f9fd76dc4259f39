package controlclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
)

func TestJoinAndComeBack(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	p := params("web")
	first, err := c.Join(within(t, 10*time.Second), p)
	if err != nil {
		t.Fatal(err)
	}
	if first.Device.Name != "web" || first.Device.PublicKey != p.Private.Public() || first.Credential == "" {
		t.Errorf("joined as %+v", first)
	}
	p.RegKey = f.RegKey().String() // the whole key does as well
	again, err := c.Join(within(t, 10*time.Second), p)
	if err != nil {
		t.Fatal(err)
	}
	if again.Device.ID != first.Device.ID || again.Device.Addresses[0] != first.Device.Addresses[0] {
		t.Errorf("the same key became another device: %+v, then %+v", first.Device, again.Device)
	}
}

func TestJoinRefusedIsNotTriedAgain(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	join(t, c, "web")
	wrongKey := params("db")
	wrongKey.RegKey = "other"
	for _, tc := range []struct {
		name string
		p    controlclient.JoinParams
		want controlapi.Code
	}{
		{"unknown key", wrongKey, controlapi.CodeKeyUnknown},
		{"name taken", params("web"), controlapi.CodeNameTaken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := f.Requests("POST /v1/join")
			_, err := c.Join(within(t, 10*time.Second), tc.p)
			var refused *controlapi.Problem
			if !errors.As(err, &refused) || refused.Code != tc.want {
				t.Fatalf("got %v, want code %s", err, tc.want)
			}
			if controlclient.Hint(err) == "" {
				t.Error("no hint")
			}
			if n := f.Requests("POST /v1/join") - before; n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestJoinRefusesBadParams(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	noKey, noPrivate := params("a"), params("a")
	noKey.RegKey = ""
	noPrivate.Private = controlclient.JoinParams{}.Private
	for _, p := range []controlclient.JoinParams{noKey, noPrivate} {
		if _, err := c.Join(within(t, 10*time.Second), p); err == nil {
			t.Errorf("joined with %+v", p)
		}
	}
	if n := f.Requests("POST /v1/challenge"); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A service that is down when the device starts is waited for.
func TestJoinWaitsForTheService(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	f.Stop()
	p := params("web")
	var told []string
	p.OnWait = func(err error, wait time.Duration) {
		told = append(told, err.Error())
		if len(told) == 2 {
			f.Start()
		}
	}
	if _, err := c.Join(within(t, 20*time.Second), p); err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimPrefix(f.URL(), "https://") + " refuses connections"; told[0] != want {
		t.Errorf("told %q, want %q", told[0], want)
	}
}

func TestJoinGivesUpWithItsContextAndSaysWhy(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	f.Stop()
	p := params("web")
	ctx, cancel := context.WithCancel(t.Context())
	p.OnWait = func(error, time.Duration) { cancel() }
	_, err := c.Join(ctx, p)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "refuses connections") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(controlclient.Hint(err), "nexd serve") {
		t.Errorf("hint %q", controlclient.Hint(err))
	}
}

// Each of these answers comes once; the join gets through all the same.
func TestJoinSurvives(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"bad gateway page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "<html>502</html>")
		},
		"internal problem": func(w http.ResponseWriter, _ *http.Request) {
			controlclienttest.Refuse(w, controlapi.Problem{Status: 500, Code: controlapi.CodeInternal, Detail: "database is locked"})
		},
		"request timeout": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestTimeout) },
		"too early":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooEarly) },
		"hangs up":        func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"stops within the answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"token":`)
			panic(http.ErrAbortHandler)
		},
		"stale challenge": func(w http.ResponseWriter, _ *http.Request) {
			controlclienttest.Refuse(w, controlapi.Problem{Status: 403, Code: controlapi.CodeChallenge, Detail: "the challenge has expired"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := controlclienttest.NewFake(t)
			c := client(t, f)
			var challenge, joins atomic.Int32
			f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				n := &challenge
				if r.URL.Path == "/v1/join" {
					n = &joins
				} else if name == "stale challenge" {
					return false
				}
				if n.Add(1) > 1 {
					return false
				}
				answer(w, r)
				return true
			})
			join(t, c, "web")
			if joins.Load() != 2 {
				t.Errorf("%d join requests, want 2", joins.Load())
			}
		})
	}
}

func TestJoinHonoursRetryAfter(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f)
	var limited atomic.Bool
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if limited.Swap(true) {
			return false
		}
		w.Header().Set("Retry-After", "1")
		controlclienttest.Refuse(w, controlapi.Problem{Status: 429, Code: controlapi.CodeRateLimited, Detail: "too many joins"})
		return true
	})
	p := params("web")
	var waits []time.Duration
	p.OnWait = func(_ error, wait time.Duration) { waits = append(waits, wait) }
	if _, err := c.Join(within(t, 20*time.Second), p); err != nil {
		t.Fatal(err)
	}
	if len(waits) != 1 || waits[0] < time.Second || waits[0] > 2*time.Second {
		t.Errorf("waited %v, want once for a little over a second", waits)
	}
}

// What answers is not the service: said at once, whatever it says.
func TestJoinSomethingElseAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		"a web page": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello") }, "not look like a nexd service"},
		"not found":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "not as a nexd service"},
		"an endless answer": {func(w http.ResponseWriter, _ *http.Request) {
			for range 40 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, "longer than"},
		"an answer without a device": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/join" {
				io.WriteString(w, "{}")
			} else {
				fmt.Fprintf(w, `{"server_key":%q,"token":"t"}`, params("x").Private.Public())
			}
		}, "names no credential"},
		"a challenge without a key": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{}`) }, "answer the challenge"},
		"control characters": {func(w http.ResponseWriter, _ *http.Request) {
			controlclienttest.Refuse(w, controlapi.Problem{Status: 400, Code: controlapi.CodeInvalid, Detail: "\x1b[31mred\nline"})
		}, " [31mred line"},
	} {
		t.Run(name, func(t *testing.T) {
			f := controlclienttest.NewFake(t)
			c := client(t, f)
			f.Intercept(func(w http.ResponseWriter, r *http.Request) bool { tc.answer(w, r); return true })
			_, err := c.Join(within(t, 10*time.Second), params("web"))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want …%s…", err, tc.want)
			}
		})
	}
}

// The service may stand behind a reverse proxy, below a path of it.
func TestServiceBelowAPath(t *testing.T) {
	f := controlclienttest.NewFake(t)
	f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/mesh/") {
			return false // come again, without the prefix
		}
		http.StripPrefix("/mesh", f).ServeHTTP(w, r)
		return true
	})
	c := client(t, f, func(cfg *controlclient.Config) { cfg.ServiceURL += "/mesh/" })
	if c.URL() != f.URL()+"/mesh" {
		t.Errorf("URL %s", c.URL())
	}
	self := join(t, c, "web")
	follow(t, c, self.Credential).next(controlapi.EventSnapshot)
	if f.Requests("POST /mesh/v1/join") != 1 || f.Requests("GET /mesh/v1/watch") != 1 {
		t.Error("requests went past the path")
	}
}

// A redirect is reported with its target and nothing is sent there.
func TestRedirectsGetNoCredentials(t *testing.T) {
	f, other := controlclienttest.NewFake(t), controlclienttest.NewFake(t)
	c := client(t, f, func(cfg *controlclient.Config) { cfg.Pin, cfg.Insecure = "", true })
	resp := join(t, c, "web")
	other.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		t.Errorf("%s %s came to the other service", r.Method, r.URL)
		return false
	})
	f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, other.URL()+"/base"+r.URL.Path+"?token=secret", http.StatusTemporaryRedirect)
		return true
	})
	want := "redirects to " + other.URL() + "/base"
	check := func(err error) {
		t.Helper()
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want …%s", err, want)
		}
	}
	_, err := c.Join(within(t, 10*time.Second), params("web"))
	check(err)
	_, err = c.Signal(within(t, 10*time.Second), resp.Credential, controlapi.Signal{})
	check(err)
	check(c.Leave(within(t, 10*time.Second), resp.Credential))
	w := follow(t, c, resp.Credential)
	check(w.lost())
}
