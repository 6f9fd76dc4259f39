package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	// maxStrays is how many packets that are no answer are read per question.
	maxStrays = 64
	// maxPacket is more than any answer has.
	maxPacket = 2048
)

// patience is how long an answer is waited for after each of the sendings of a
// question (RFC 6886 section 3.1 begins so, too; a gateway is near).
var patience = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}

// ask sends a question from our address of the link until accept finds the
// answer, or an error other than errNotAnswer. It hears only the asked address:
// the socket is connected to it. It returns errSilent when nobody answered.
func ask(ctx context.Context, l link, to netip.AddrPort, question []byte, accept func([]byte) error) error {
	if !to.Addr().IsValid() {
		return errNoGateway
	}
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	c, err := net.DialUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.local, 0)), net.UDPAddrFromAddrPort(to))
	if err != nil {
		return fmt.Errorf("ask %s: %w", to, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	b := make([]byte, maxPacket)
	strays := 0
	for _, wait := range patience {
		if _, err := c.Write(question); err != nil {
			return silent(ctx, err)
		}
		if c.SetReadDeadline(time.Now().Add(wait)); ctx.Err() != nil {
			return ctx.Err()
		}
		for {
			n, err := c.Read(b)
			if isTimeout(err) && ctx.Err() == nil {
				break
			}
			if err != nil {
				return silent(ctx, err)
			}
			if err := accept(b[:n]); !errors.Is(err, errNotAnswer) {
				return err
			}
			if strays++; strays > maxStrays {
				return errNotAnswer
			}
		}
	}
	return errSilent
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// silent makes an error out of what the socket said: a closed port is as good
// as silence.
func silent(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED):
		return errSilent
	}
	return err
}
