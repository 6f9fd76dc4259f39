package localapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nexd/localapi"
)

// However a peer is named, the name is bounded: it comes back in the answer.
func TestPeerNamesAreBounded(t *testing.T) {
	answer := localapi.Handler(nil) // nobody is asked for such a name
	name := strings.Repeat("x", 600)
	for what, r := range map[string]*http.Request{
		"trace": httptest.NewRequest(http.MethodGet, "/v1/trace?peer="+name, nil),
		"ping":  httptest.NewRequest(http.MethodPost, "/v1/ping", strings.NewReader(`{"peer":"`+name+`"}`)),
		"wait":  httptest.NewRequest(http.MethodGet, "/v1/wait?for=direct:"+name, nil),
	} {
		t.Run(what, func(t *testing.T) {
			if code := answer(r); code != http.StatusBadRequest {
				t.Errorf("status %d", code)
			}
		})
	}
}
