package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"nexd/internal/logkey"
	"nexd/internal/memlimit"
)

// daemonize runs a daemon until it ends, under these signals:
//
//	SIGTERM, SIGINT   ends ctx: the daemon drains and the exit code is 0
//	the second one    ends at once, whatever still runs; the exit code is 1
//	SIGHUP            reload
//
// Its memory keeps within the container's meanwhile, see memlimit.
//
// A signal that comes within [echo] of the first is the same one, sent twice: to
// the process and to its group, as timeout(1) and some supervisors do.
func daemonize(ctx context.Context, log *slog.Logger, run func(context.Context) error, reload func() error) error {
	if limit := memlimit.Apply(os.Getenv); limit > 0 {
		log.Info("memory is bounded by the container's limit", "bytes", limit)
	}
	settling, settle := context.WithCancel(ctx)
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		_ = memlimit.Run(settling)
	}()
	defer func() {
		settle()
		<-settled
	}()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	return supervise(ctx, log, signals, run, reload)
}

// echo is shorter than any person's second thought.
const echo = 50 * time.Millisecond

// supervise is daemonize with the signals given.
func supervise(ctx context.Context, log *slog.Logger, signals <-chan os.Signal, run func(context.Context) error, reload func() error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	for stopping := (time.Time{}); ; {
		select {
		case err := <-done:
			return err
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				if err := reload(); err != nil {
					log.Error("reload the configuration: nothing was changed", logkey.Err, oneLine(err))
				}
			case !stopping.IsZero() && time.Since(stopping) < echo:
			case !stopping.IsZero():
				return failed("", "ended at once by a second %s: connections were cut", name(sig))
			default:
				stopping = time.Now()
				log.Info("stopping: connections may finish, a second signal ends at once", "signal", name(sig))
				stop()
			}
		}
	}
}

// name returns the signal's name as kill(1) takes it.
func name(sig os.Signal) string {
	switch sig {
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	}
	return sig.String()
}

// oneLine is an error for the log, with what to do behind it.
func oneLine(err error) error {
	e := explain(err)
	if rule, ok := asRuleError(err); ok {
		return rule
	}
	var parts []string
	for line := range strings.Lines(e.Message) {
		if line = strings.TrimSpace(line); line != "" && line != "^" { // the mark below a wrong rule
			parts = append(parts, line)
		}
	}
	message := strings.Join(parts, ": ")
	if e.Hint != "" {
		return fmt.Errorf("%s (%s)", message, e.Hint)
	}
	return errors.New(message)
}
