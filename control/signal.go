package control

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
)

type (
	signalInput  struct{ Body controlapi.Signal }
	signalOutput struct{ Body controlapi.SignalResult }
)

// signal passes a sealed message to another member's stream. It is never
// stored: when the other is not connected, or reads too slowly, it is gone and
// the sender is told.
func (s *Service) signal(ctx context.Context, in *signalInput) (*signalOutput, error) {
	d, sig := deviceFrom(ctx), in.Body
	if wait := s.signals.take(d.ID, time.Now()); wait > 0 {
		s.metrics.limited.WithLabelValues("signal").Inc()
		p, after := rateLimited(wait)
		return nil, huma.ErrorWithHeaders(p, http.Header{"Retry-After": {after}})
	}
	switch {
	case sig.To.IsZero():
		return nil, invalid("to is empty: want the public key of a member")
	case sig.To == d.PublicKey:
		return nil, invalid("to is the sender's own key")
	case len(sig.Payload) == 0:
		return nil, invalid("payload is empty")
	case len(sig.Payload) > controlapi.MaxSignal:
		return nil, problem(http.StatusRequestEntityTooLarge, controlapi.CodeTooLarge, "payload is larger than 4096 bytes", "")
	}
	known, delivered := s.hub.deliver(d.PublicKey, sig.To, sig.Payload)
	result := "delivered"
	switch {
	case !known:
		result = "unknown"
	case !delivered:
		result = "not_connected"
	}
	s.metrics.signals.WithLabelValues(result).Inc()
	if !known {
		return nil, notFound("member with the key", sig.To.Short()+"…")
	}
	return &signalOutput{Body: controlapi.SignalResult{Delivered: delivered}}, nil
}

// leave deletes the device that asks for it.
func (s *Service) leave(ctx context.Context, _ *struct{}) (*struct{}, error) {
	d := deviceFrom(ctx)
	// Looked at again in the transaction: another may have its place by now.
	lost := func(now store.Device) bool { return now.Credential != d.Credential }
	_, left, err := s.store.DeleteDevice(ctx, d.Network, d.ID, s.deletion(time.Now()), lost)
	switch {
	case err != nil:
		return nil, s.deviceProblem(d.Name, "leave", err)
	case !left:
		return nil, unauthorized("this device is no longer a member")
	}
	s.hub.sync(ctx)
	s.log.Info("device deleted", logkey.Device, d.Name, logID, d.ID, logkey.Reason, "it left")
	return nil, nil
}
