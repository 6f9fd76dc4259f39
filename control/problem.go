package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"nexd/control/store"
	"nexd/controlapi"
)

// Set before any goroutine of this package can run, and never again.
func init() { huma.NewError = humaError }

// humaError is how huma's own refusals (validation, size, media type) look.
// Values a client sent are not repeated: they may be secrets.
func humaError(status int, msg string, errs ...error) huma.StatusError {
	const maxDetail = 600
	parts := make([]string, 0, len(errs))
	for _, err := range errs {
		var d huma.ErrorDetailer
		switch {
		case err == nil:
		case errors.As(err, &d):
			detail := d.ErrorDetail()
			parts = append(parts, strings.TrimPrefix(detail.Location+": ", ": ")+detail.Message)
		default:
			parts = append(parts, err.Error())
		}
	}
	if len(parts) > 0 {
		msg += ": " + strings.Join(parts, "; ")
	}
	if len(msg) > maxDetail {
		msg = strings.ToValidUTF8(msg[:maxDetail], "") + "…"
	}
	return problem(status, codeOf(status), msg, "")
}

func problem(status int, code controlapi.Code, detail, hint string) *controlapi.Problem {
	return &controlapi.Problem{Status: status, Title: http.StatusText(status), Detail: detail, Code: code, Hint: hint}
}

// codeOf is the code of a refusal that has no better one.
func codeOf(status int) controlapi.Code {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return controlapi.CodeUnauthorized
	case http.StatusNotFound:
		return controlapi.CodeNotFound
	case http.StatusRequestEntityTooLarge:
		return controlapi.CodeTooLarge
	case http.StatusTooManyRequests:
		return controlapi.CodeRateLimited
	}
	if status >= 500 {
		return controlapi.CodeInternal
	}
	return controlapi.CodeInvalid
}

func unauthorized(detail string) *controlapi.Problem {
	return problem(http.StatusUnauthorized, controlapi.CodeUnauthorized, detail, "")
}

func invalid(format string, args ...any) *controlapi.Problem {
	return problem(http.StatusUnprocessableEntity, controlapi.CodeInvalid, fmt.Sprintf(format, args...), "")
}

func notFound(what, name string) *controlapi.Problem {
	return problem(http.StatusNotFound, controlapi.CodeNotFound, fmt.Sprintf("there is no %s %q", what, name), "")
}

// rateLimited says when to come back, in whole seconds; after is for Retry-After.
func rateLimited(wait time.Duration) (p *controlapi.Problem, after string) {
	after = strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))
	return problem(http.StatusTooManyRequests, controlapi.CodeRateLimited, "too many requests", "try again in "+after+" s"), after
}

// writeProblem answers with p, outside of huma.
func writeProblem(w http.ResponseWriter, p *controlapi.Problem) {
	body, _ := json.Marshal(p) // plain strings and numbers
	w.Header().Set("Content-Type", p.ContentType(""))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	w.Write(body)
}

// joinProblem turns a refusal of the store into an answer; nil for any other error.
func joinProblem(err error) *controlapi.Problem {
	const forbidden, conflict = http.StatusForbidden, http.StatusConflict
	var name *store.NameTakenError
	var addr *store.AddressError
	switch {
	case errors.Is(err, store.ErrKeyUnknown):
		return problem(forbidden, controlapi.CodeKeyUnknown, "the registration key is not known here",
			"it was deleted, cut when it was copied, or belongs to another service: ask for a new one (nexctl reg-key create)")
	case errors.Is(err, store.ErrKeyRole):
		return problem(forbidden, controlapi.CodeKeyRole, "the registration key is for relays, not for devices",
			"make one for devices: nexctl reg-key create")
	case errors.Is(err, store.ErrKeyExpired):
		return problem(forbidden, controlapi.CodeKeyExpired, "the registration key has expired", "ask for a new one (nexctl reg-key create)")
	case errors.Is(err, store.ErrKeyUsed):
		return problem(forbidden, controlapi.CodeKeyUsed, "the registration key is for a single use and another device used it",
			"ask for a new one (nexctl reg-key create)")
	case errors.As(err, &name):
		return problem(conflict, controlapi.CodeNameTaken, fmt.Sprintf("the name %q belongs to another device", name.Name),
			"choose another with --hostname, delete that device, or take its place with a key made by: nexctl reg-key create --reclaim")
	case errors.Is(err, store.ErrConnected):
		return problem(conflict, controlapi.CodeConnected, "the device of this name is connected: only one that is not can be reclaimed",
			"stop that device, or choose another name with --hostname")
	case errors.As(err, &addr):
		return addressProblem(addr)
	case errors.Is(err, store.ErrExhausted):
		return problem(conflict, controlapi.CodeExhausted, "the network has no free address left",
			"delete devices (their addresses rest for some minutes), or start the service with a wider --network-cidr")
	}
	return nil
}

func addressProblem(err *store.AddressError) *controlapi.Problem {
	first, last := err.Range.Addr().Next(), lastOf(err.Range)
	switch err.Problem {
	case store.AddressOutside, store.AddressReserved:
		return problem(http.StatusUnprocessableEntity, controlapi.CodeAddressInvalid, err.Error(),
			fmt.Sprintf("request an address from %s to %s, or none", first, last))
	case store.AddressOther:
		return problem(http.StatusConflict, controlapi.CodeAddressInvalid, err.Error(),
			"leave --request-ip out, or delete the device first")
	}
	return problem(http.StatusConflict, controlapi.CodeAddressTaken, err.Error(), "request another address, or none")
}
