package control

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/internal/opsport/opsporttest"
	"nexd/key"
)

// get returns a whole answer.
func (w *world) get(method, path, token string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(b)
}

// Every path the description lists answers, and asks for the token it says.
func TestOpenAPI(t *testing.T) {
	w := start(t, t.TempDir())
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	r := w.joinRelay(relayWish(w.regKey(controlapi.RegKeyRequest{Role: controlapi.RoleRelay}), "r"))
	_, text := w.get("GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Security    []map[string]any
			Responses   map[string]struct{ Content map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	for _, want := range []string{
		"/v1/challenge", "/v1/join", "/v1/watch", "/v1/signals", "/v1/self", "/v1/reg-keys", "/v1/reg-keys/{id}",
		"/v1/devices", "/v1/devices/{device}", "/v1/self/relays", "/v1/relays", "/v1/relays/self", "/v1/relays/{relay}", "/healthz", "/readyz",
	} {
		if doc.Paths[want] == nil {
			t.Errorf("%s is not described", want)
		}
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			t.Run(op.OperationID, func(t *testing.T) {
				w.t = t
				problems := false
				for _, r := range op.Responses {
					problems = problems || r.Content["application/problem+json"] != nil
				}
				if !problems && op.OperationID != "watch" {
					t.Error("its refusals are not described")
				}
				path := strings.NewReplacer("{id}", "key_none", "{device}", "none", "{relay}", "none").Replace(path)
				method := strings.ToUpper(method)
				if len(op.Security) > 0 {
					for _, token := range []string{"", "wrong"} {
						p, res := w.send(method, path, token, nil, nil)
						w.refused(p, controlapi.CodeUnauthorized)
						if res.Header.Get("WWW-Authenticate") == "" {
							t.Error("no WWW-Authenticate")
						}
					}
				}
				token := w.token
				if len(op.Security) > 0 && op.Security[0]["device"] != nil {
					token = a.Credential
				}
				if len(op.Security) > 0 && op.Security[0]["relay"] != nil {
					token = r.Credential
				}
				switch op.OperationID {
				case "leave": // tested where a device may go
				case "watch":
					w.mustWatch(a, "").expect(controlapi.EventSnapshot)
				default:
					p, _ := w.send(method, path, token, nil, nil)
					if p != nil && (p.Code == controlapi.CodeUnauthorized || p.Status >= 500 || p.Code == controlapi.CodeNotFound && !strings.Contains(p.Detail, `"`)) {
						t.Errorf("%s %s: %+v", method, path, p)
					}
				}
			})
		}
	}
}

func TestMalformedRequests(t *testing.T) {
	w := start(t, t.TempDir())
	secret := w.regKey(controlapi.RegKeyRequest{})
	a := w.join(wish(secret, "a"))
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	key64 := key.NewPrivate().Public().String()
	joinWith := func(field, value string) string {
		return fmt.Sprintf(`{"reg_key":"k","public_key":%q,"token":"t","proof":"AAAA","name":"n",%q:%s}`, key64, field, value)
	}
	for _, c := range []struct {
		what, method, path, token, body string
		status                          int
	}{
		{"nothing here", "GET", "/v1/nothing", "", "", 404},
		{"root", "GET", "/", "", "", 404},
		{"wrong method", "PUT", "/v1/join", "", "{}", 405},
		{"wrong method of a device", "POST", "/v1/devices/x", w.token, "{}", 405},
		{"empty join", "POST", "/v1/join", "", "", 400},
		{"no JSON", "POST", "/v1/join", "", "hello", 400},
		{"cut JSON", "POST", "/v1/join", "", `{"reg_key":"`, 400},
		{"array", "POST", "/v1/join", "", `[]`, 422},
		{"null", "POST", "/v1/join", "", `null`, 422},
		{"missing fields", "POST", "/v1/join", "", `{}`, 422},
		{"unknown field", "POST", "/v1/join", "", joinWith("admin", "true"), 422},
		{"number as name", "POST", "/v1/join", "", joinWith("name", "5"), 422},
		{"long name", "POST", "/v1/join", "", joinWith("name", `"`+strings.Repeat("a", 64)+`"`), 422},
		{"bad key", "POST", "/v1/join", "", joinWith("public_key", `"AAAA"`), 422},
		{"zero key", "POST", "/v1/join", "", joinWith("public_key", `"`+strings.Repeat("A", 43)+`="`), 422},
		{"bad address", "POST", "/v1/join", "", joinWith("request_ip", `"100.64.0"`), 422},
		{"bad choice", "POST", "/v1/join", "", joinWith("on_name_taken", `"steal"`), 422},
		{"bad base64", "POST", "/v1/join", "", joinWith("proof", `"!!!"`), 422},
		{"deep JSON", "POST", "/v1/join", "", deep, 413},
		{"large join", "POST", "/v1/join", "", joinWith("os", `"`+strings.Repeat("a", maxJoinBody)+`"`), 413},
		{"very large join", "POST", "/v1/join", "", strings.Repeat(" ", 1<<20), 413},
		{"large signal", "POST", "/v1/signals", a.Credential, `{"payload":"` + strings.Repeat("A", 1<<20) + `"}`, 413},
		{"signal without payload", "POST", "/v1/signals", a.Credential, `{}`, 422},
		{"large key request", "POST", "/v1/reg-keys", w.token, `{"description":"` + strings.Repeat("A", 1<<20) + `"}`, 413},
		{"long description", "POST", "/v1/reg-keys", w.token, `{"description":"` + strings.Repeat("A", 300) + `"}`, 422},
		{"negative expiry", "POST", "/v1/reg-keys", w.token, `{"expires_in":-1}`, 422},
		{"endless expiry", "POST", "/v1/reg-keys", w.token, `{"expires_in":9223372036854775807}`, 422},
		{"bad tag", "POST", "/v1/reg-keys", w.token, `{"tags":["no spaces"]}`, 422},
		{"many tags", "POST", "/v1/reg-keys", w.token, `{"tags":["a"` + strings.Repeat(`,"a"`, 40) + `]}`, 422},
		{"no such key", "DELETE", "/v1/reg-keys/key_none", w.token, "", 404},
		{"no such device", "DELETE", "/v1/devices/none", w.token, "", 404},
		{"bad new name", "PATCH", "/v1/devices/a", w.token, `{"name":"A B"}`, 422},
		{"a device is no administrator", "GET", "/v1/devices", a.Credential, "", 401},
		{"an administrator is no device", "GET", "/v1/watch", w.token, "", 401},
		{"a long token", "GET", "/v1/devices", strings.Repeat("a", 4000), "", 401},
	} {
		t.Run(c.what, func(t *testing.T) {
			w.t = t
			var body any
			if c.body != "" {
				body = c.body
			}
			p, res := w.send(c.method, c.path, c.token, body, nil)
			if p == nil || p.Status != c.status {
				t.Fatalf("%+v, want %d", p, c.status)
			}
			if len(p.Detail) > 1000 || strings.Contains(p.Detail, "AAAAAAAA") {
				t.Errorf("the answer repeats what was sent: %s", p.Detail)
			}
			if c.status == 405 && res.Header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
	w.t = t
	var list controlapi.DeviceList
	w.admin("GET", "/v1/devices", nil, &list)
	if len(list.Devices) != 1 || list.Devices[0].Name != "a" {
		t.Errorf("bad requests changed something: %v", list)
	}
}

func TestAdministration(t *testing.T) {
	w := start(t, t.TempDir())
	var made controlapi.RegKeyCreated
	w.admin("POST", "/v1/reg-keys", controlapi.RegKeyRequest{Description: "web\x1b servers", Tags: []string{"b", "a", "b"}, ExpiresIn: 60}, &made)
	k, err := controlapi.ParseRegKey(made.Key)
	if err != nil || k.ServiceURL != w.svc.URL() || k.Pin != w.svc.pin() || k.Pin == "" {
		t.Errorf("key %+v, %v", k, err)
	}
	if made.Description != "web servers" || fmt.Sprint(made.Tags) != "[a b]" || made.Expires.Sub(made.Created) != time.Minute {
		t.Errorf("made %+v", made.RegKeyInfo)
	}
	a := w.join(wish(k.Secret, "a"))
	var keys controlapi.RegKeyList
	w.admin("GET", "/v1/reg-keys", nil, &keys)
	if len(keys.RegKeys) != 1 || keys.RegKeys[0].Uses != 1 || keys.RegKeys[0].LastUsed.IsZero() {
		t.Errorf("keys %+v", keys)
	}
	var d controlapi.DeviceInfo
	w.admin("GET", "/v1/devices/"+a.Device.ID, nil, &d)
	if d.Name != "a" || d.Connected || d.RegKeyID != made.ID || d.OS != "linux" || d.Version != "1" || !d.LastSeen.IsZero() {
		t.Errorf("device %+v", d)
	}
	w.mustWatch(a, "").expect(controlapi.EventSnapshot)
	w.admin("GET", "/v1/devices/a", nil, &d)
	if !d.Connected || d.LastSeen.IsZero() {
		t.Errorf("connected device %+v", d)
	}
	w.join(wish(k.Secret, "b"))
	name := "b"
	p, _ := w.send("PATCH", "/v1/devices/a", w.token, controlapi.DeviceUpdate{Name: &name}, nil)
	w.refused(p, controlapi.CodeNameTaken)
	w.admin("PATCH", "/v1/devices/a", map[string]any{"name": "c"}, &d)
	if d.Name != "c" || d.ID != a.Device.ID {
		t.Errorf("renamed %+v", d)
	}
	w.admin("PATCH", "/v1/devices/c", map[string]any{}, &d)
	w.admin("DELETE", "/v1/reg-keys/"+made.ID, nil, nil)
	w.mustWatch(a, "").expect(controlapi.EventSnapshot) // it outlives its key
	w.admin("DELETE", "/v1/devices/c", nil, nil)
	p, _ = w.send("GET", "/v1/devices/c", w.token, nil, nil)
	w.refused(p, controlapi.CodeNotFound)
}

func TestHealthAndMetrics(t *testing.T) {
	w := start(t, t.TempDir())
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "secretname"))
	w.mustWatch(a, "").expect(controlapi.EventSnapshot)
	w.send("GET", "/v1/random-path-of-a-stranger", "", nil, nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		res, body := w.get("GET", path, "")
		if res.StatusCode != 200 || !strings.Contains(body, "status") {
			t.Errorf("%s: %s %s", path, res.Status, body)
		}
		for _, h := range []string{"X-Content-Type-Options", "Content-Security-Policy", "Cache-Control"} {
			if res.Header.Get(h) == "" {
				t.Errorf("%s: no %s", path, h)
			}
		}
	}
	var text string
	for _, want := range []string{
		"nexd_control_devices 1", "nexd_control_connected_devices 1", `nexd_control_joins_total{result="new"} 1`,
		`nexd_control_requests_total{code="200",route="POST /v1/join"} 1`, `nexd_control_requests_total{code="404",route="none"} 1`,
		`nexd_control_stream_events_total{type="snapshot"} 1`,
	} {
		eventually(t, want, func() bool { // what was answered is counted a moment later
			_, text = w.get("GET", "/metrics", "")
			return strings.Contains(text, want)
		})
	}
	opsporttest.Lint(t, text)
	opsporttest.Documented(t, text)
	for _, leak := range []string{"secretname", "stranger", a.Device.ID, "100.64."} {
		if strings.Contains(text, leak) {
			t.Errorf("metrics: %s is in them", leak)
		}
	}
	w.svc.store.Close()
	eventually(t, "not ready without a database", func() bool {
		res, _ := w.get("GET", "/readyz", "")
		return res.StatusCode == 503
	})
}

func TestBehindASubPath(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.PublicURL = "https://example.com/nexd/" })
	for _, path := range []string{"/healthz", "/nexd/healthz"} {
		if res, _ := w.get("GET", path, ""); res.StatusCode != 200 {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}

// A handler that panics costs its request only.
func TestPanicIsContained(t *testing.T) {
	s := &Service{log: testConfig("").withDefaults().Log, metrics: newMetrics()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /boom", func(http.ResponseWriter, *http.Request) { panic("boom") })
	rec := httptest.NewRecorder()
	s.handler(mux).ServeHTTP(rec, httptest.NewRequest("GET", "/boom", nil))
	var p controlapi.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Code != controlapi.CodeInternal || strings.Contains(p.Detail, "boom") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func (c Config) withDefaults() Config { c.setDefaults(); return c }

func TestLimiterIsBounded(t *testing.T) {
	now := time.Now()
	l := newLimiter[int](Rate{PerSecond: 1, Burst: 1}, 10)
	for k := range 1000 {
		l.take(k, now)
	}
	if len(l.byKey) != 10 {
		t.Errorf("%d buckets", len(l.byKey))
	}
	if wait := l.take(2000, now); wait <= 0 {
		t.Error("sources beyond the table are not held back")
	}
	if wait := l.take(3000, now.Add(time.Minute)); wait != 0 || len(l.byKey) != 1 {
		t.Errorf("idle sources keep the table full: wait %v, %d buckets", wait, len(l.byKey))
	}
	for remote, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1/32", "[::ffff:192.0.2.1]:5": "192.0.2.1/32", "[2001:db8::1:2:3:4]:5": "2001:db8::/64", "[fe80::1%eth0]:5": "fe80::/64",
	} {
		if got := sourceOf(remote); got != netip.MustParsePrefix(want) {
			t.Errorf("source of %s: %s, want %s", remote, got, want)
		}
	}
}
