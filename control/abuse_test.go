package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"nexd/controlapi"
)

// Whatever is sent to whichever operation, as whoever: the answer is a success
// or a whole problem document ([world.send] looks), and never an error of the
// service.
func TestAbuse(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.JoinRate, c.JoinRateAll = Rate{1e6, 1e6}, Rate{1e6, 1e6} })
	member := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "member"))
	var doc struct{ Paths map[string]map[string]any }
	if _, text := w.get("GET", "/openapi.json", ""); json.Unmarshal([]byte(text), &doc) != nil {
		t.Fatal("no description")
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprint("a", i))
	}
	bodies := []any{
		nil, "", "{}", "null", "[]", `"x"`, "{", "\xff\xfe", "{\"a\":\x00}", strings.Repeat("[", 10_000), strings.Repeat("x", 100_000),
		`{"expires_in":1e400}`, `{"expires_in":-1}`, `{"expires_in":"x"}`, `{"expires_in":9223372036854775807}`,
		`{"tags":["A B"]}`, `{"tags":null}`, `{"tags":[null]}`, `{"tags":[` + strings.Join(many, ",") + `]}`,
		`{"description":"\u0000\u001b[31m"}`, `{"description":"` + strings.Repeat("d", 20_000) + `"}`,
		`{"name":"UP"}`, `{"name":""}`, `{"name":null}`, `{"single_use":"true"}`, `{"unknown":1}`,
		`{"to":"x","sealed":"y"}`, `{"public_key":"AAAA","proof":"","token":"","reg_key":""}`,
	}
	names := []string{"none", "%00", "..%2f..", "%ff", "%27%20or%201=1", strings.Repeat("x", 5000)}
	tokens := map[string]string{"nobody": "", "a stranger": "wrong", "a member": member.Credential, "the administrator": w.token}
	for path, methods := range doc.Paths {
		for method := range methods {
			for who, token := range tokens {
				if path == "/v1/watch" && who == "a member" || path == "/v1/self" && who == "a member" {
					continue // these do what they are for
				}
				for _, name := range names {
					path := strings.NewReplacer("{id}", name, "{device}", name).Replace(path)
					for _, body := range bodies {
						if method == "get" && body != nil {
							continue
						}
						if p, res := w.send(strings.ToUpper(method), path, token, body, nil); res.StatusCode >= 500 {
							t.Errorf("%s %.40s by %s with %.40q: %v", method, path, who, body, p)
						}
					}
					if !strings.Contains(path, name) {
						break
					}
				}
			}
		}
	}
	for _, query := range []string{"since=abc", "since=-1", "since=99999999999999999999999"} {
		if p, _ := w.send("GET", "/v1/watch?"+query, member.Credential, nil, nil); p == nil {
			t.Errorf("%s: taken", query)
		}
	}
	for _, path := range []string{"/", "/v1", "/v2/devices", "/v1/devices/", "/%2e%2e/", "/v1/devices/a/b"} {
		if p, res := w.send("GET", path, w.token, nil, nil); p == nil || res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %v", path, res.Status)
		}
	}
	for _, method := range []string{"PUT", "TRACE", "OPTIONS", "NOSUCH"} {
		if p, res := w.send(method, "/v1/devices", w.token, nil, nil); p == nil || res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") == "" {
			t.Errorf("%s: %v", method, res.Status)
		}
	}
	// The member is as it was.
	var d controlapi.DeviceInfo
	w.admin("GET", "/v1/devices/member", nil, &d)
	if len(d.Tags) != 0 || d.Name != "member" {
		t.Errorf("changed: %+v", d)
	}
}
