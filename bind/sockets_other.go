//go:build !linux

package bind

import (
	"errors"
	"log/slog"
	"net"
)

const batchSize = 1

func newCarrier(c *net.UDPConn, _ bool, _ *slog.Logger) carrier {
	_ = c.SetReadBuffer(extraBuffer) // less is slower, not wrong
	_ = c.SetWriteBuffer(extraBuffer)
	return newPlain(c)
}

func newSmallCarrier(c *net.UDPConn, v6 bool, log *slog.Logger) carrier {
	return newCarrier(c, v6, log)
}

func setMark(_ *net.UDPConn, mark uint32) error {
	if mark == 0 {
		return nil
	}
	return errors.ErrUnsupported
}
