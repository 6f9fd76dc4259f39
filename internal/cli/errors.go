package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"nexd/control"
	"nexd/controlapi"
	"nexd/localapi"
	"nexd/node"
	"nexd/rules"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // it failed while running
	exitUsage  = 2 // the request was wrong, and nothing was changed
)

// Error is what a person sees: what went wrong and, in Hint, what to do.
type Error struct {
	Message string
	Hint    string
	Code    int
	// Shown says that everything was printed already.
	Shown bool
}

func (e *Error) Error() string { return e.Message }

// wrong makes the error of a request that cannot be meant.
func wrong(hint, format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Hint: hint, Code: exitUsage}
}

// failed makes the error of something that did not work.
func failed(hint, format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Hint: hint, Code: exitFailed}
}

// explain turns any error into one for people. nil stays nil.
func explain(err error) *Error {
	if err == nil {
		return nil
	}
	var (
		own      *Error
		rule     *rules.Error
		request  *localapi.UserError
		usage    *node.UsageError
		start    *control.StartError
		noDaemon *localapi.NoDaemonError
		local    *localapi.Problem
		remote   *controlapi.Problem
		hinted   interface{ Hint() string }
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &rule):
		return wrong(rule.Hint, "%s", ruleText(rule))
	case errors.As(err, &request):
		return wrong(request.Hint, "%s", request.Message)
	case errors.As(err, &usage):
		return wrong(usage.Hint, "%s", usage.Message)
	case errors.As(err, &start) && start.Wrong:
		return wrong(start.Advice, "%s", start.Message)
	case errors.As(err, &noDaemon):
		return failed(noDaemon.Hint(), "%s", noDaemon.Error())
	case errors.As(err, &local):
		return failed(local.Hint, "%s", local.Message)
	case errors.As(err, &remote):
		return failed(remote.Hint, "%s", err.Error())
	case errors.As(err, &hinted):
		// Some say what to do in the message, too: once is enough.
		hint := hinted.Hint()
		return failed(hint, "%s", strings.Replace(err.Error(), ": "+hint, "", 1))
	case errors.Is(err, context.Canceled):
		return failed("", "interrupted")
	}
	return failed("", "%s", err.Error())
}

// ruleText shows the rule with a mark under the wrong place.
func ruleText(e *rules.Error) string {
	plain := *e
	plain.Hint = ""
	return plain.Detail()
}

// print writes "error: ..." and "hint: ...".
func (e *Error) print(w io.Writer) {
	if e.Shown {
		return
	}
	fmt.Fprintf(w, "error: %s\n", e.Message)
	if e.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", e.Hint)
	}
}
